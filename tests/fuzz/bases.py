"""Small valid files of every kind; the fuzzer mutates them."""

from __future__ import annotations

import pickle
from functools import cache
from io import BytesIO, StringIO

import numpy as np

from io_samples import dump_binary, make_frame

NAMES = ("Fe", "O", "Mg")


def _atoms(n: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((n, 3)), rng.integers(0, 3, n), np.diag([8.0, 9.0, 10.0])


def _table(*columns: object) -> str:
    return "".join(" ".join(str(cell) for cell in row) + "\n" for row in zip(*columns, strict=True))


def dumps() -> list[str]:
    found = []
    for box, columns in (
        ("pp pp pp\n0 8\n0 9\n0 10", "id type element x y z"),
        ("xy xz yz pp pp ff\n-1 9 1.5\n0 9.5 0.5\n0 10 -0.25", "id type xs ys zs c_pe"),
        ("abc origin pp ff pp\n8 0 0 0\n1 9 0 0.5\n0 0 10 0", "id mol type element xu yu zu vx"),
        ("ff ff ff\n0 8\n0 9\n0 10", "element x y z ix iy iz q"),
    ):
        text = ""
        for step in (0, 100):
            fractions, codes, cell = _atoms(seed=step)
            places = np.round(fractions if "xs" in columns else fractions @ cell, 4)
            known = {
                "id": range(1, 13), "type": codes + 1, "element": [NAMES[c] for c in codes], "mol": codes,
                **dict(zip(("x", "y", "z"), places.T, strict=True)),
            }  # fmt: skip
            given = [known.get(name, known.get(name[0], fractions[:, 0])) for name in columns.split()]
            given = [
                np.zeros(12, int) if n in ("ix", "iy", "iz") else g
                for n, g in zip(columns.split(), given, strict=True)
            ]
            head = "ITEM: UNITS\nmetal\n" if step == 0 and "xs" in columns else ""
            head += f"ITEM: TIME\n{step * 0.001}\n" if "mol" in columns else ""
            text += f"{head}ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n12\nITEM: BOX BOUNDS {box}\n"
            text += f"ITEM: ATOMS {columns}\n{_table(*given)}"
        found.append(text)
    return found


def xyzs() -> list[str]:
    found = []
    second = (
        'Lattice="8 0 0 1 9 0 0 -1 10" Origin="1 2 3" timestep=10 '
        'Properties=id:I:1:species:S:1:pos:R:3:forces:R:3:move:L:1 name=\'a b\' note="x=\\"1\\"" '
        'energy=-1.5 flag=T list=[1,2] stress="1 2 3 4 5 6 7 8 9"'
    )
    for comment in (
        'Lattice="8 0 0 0 9 0 0 0 10" Properties=species:S:1:pos:R:3 pbc="T T F" time=1.5 temperature=300',
        second,
    ):
        text = ""
        for step in (0, 1):
            fractions, codes, cell = _atoms(seed=step)
            places = np.round(fractions @ cell, 4)
            columns = [[NAMES[c] for c in codes], *places.T]
            if "forces" in comment:
                columns = [range(1, 13), *columns, *fractions.T, ["T"] * 12]
            text += f"12\n{comment}\n{_table(*columns)}"
        found.append(text)
    fractions, codes, cell = _atoms()
    found.append(f"12\nplain comment\n{_table([NAMES[c] for c in codes], *np.round(fractions @ cell, 3).T)}")
    return found


def xdatcars() -> list[str]:
    head = "melt\n1.0\n8 0 0\n0 9 0\n0 0 10\nFe O Mg\n4 6 2\n"
    parts = [f"Direct configuration= {k}\n{_table(*np.round(_atoms(seed=k)[0], 5).T)}" for k in (1, 2)]
    return [head + parts[0] + parts[1], head + parts[0] + head + parts[1]]


def poscars() -> list[str]:
    places = _table(*np.round(_atoms()[0], 5).T)
    return [
        f"melt\n1.0\n8 0 0\n0 9 0\n0 0 10\nFe O Mg\n4 6 2\nDirect\n{places}",
        f"Fe O\n-720\n1 0 0\n0 1 0\n0 0 1\n4 8\nSelective dynamics\nCartesian\n{places}",
    ]


def gros() -> list[str]:
    found = []
    for box in ("0.8 0.9 1.0", "0.8 0.9 1.0 0 0 0.1 0 0.05 0"):
        text = ""
        for step in (0, 1):
            fractions, _, cell = _atoms(seed=step)
            text += f"Water t= {step}.0 step= {step}\n12\n"
            for k, place in enumerate(fractions @ cell / 10):
                name = ("OW", "HW1", "HW2")[k % 3]
                text += (
                    f"{k // 3 + 1:5d}SOL  {name:>5}{k + 1:5d}" + "".join(f"{x:8.3f}" for x in place) + "\n"
                )
            text += f"{box}\n"
        found.append(text)
    return found


def datas() -> list[str]:
    fractions, codes, cell = _atoms()
    x, y, z = np.round(fractions @ cell, 3).T
    head = (
        "LAMMPS data file\n\n12 atoms\n3 atom types\n\n0 8 xlo xhi\n0 9 ylo yhi\n0 10 zlo zhi\n{}\nMasses\n\n"
    )
    masses = "1 55.845 # Fe\n2 15.999 # O\n3 24.305 # Mg\n\n"
    ids = range(1, 13)
    full = _table(ids, codes + 1, codes + 1, np.zeros(12), x, y, z, *np.zeros((3, 12), int))
    return [
        head.format("") + masses + "Atoms # atomic\n\n" + _table(ids, codes + 1, x, y, z),
        head.format("1 0.5 0 xy xz yz\n")
        + masses
        + f"Atoms # full\n\n{full}\nVelocities\n\n"
        + _table(ids, x, y, z),
        head.format("") + masses + "Atoms\n\n" + _table(ids, codes + 1, np.zeros(12), x, y, z),
    ]


def _with_ase(*formats: str) -> list[bytes]:
    from ase import Atoms
    from ase.io import write

    fractions, codes, cell = _atoms()
    atoms = Atoms([NAMES[c] for c in codes], scaled_positions=fractions, cell=cell, pbc=True)
    found = []
    for name in formats:
        stream: BytesIO | StringIO = BytesIO() if name in ("traj", "cif") else StringIO()
        write(stream, [atoms] if name == "traj" else atoms, format=name)
        content = stream.getvalue()
        found.append(content if isinstance(content, bytes) else content.encode())
    return found


def benchmark() -> dict[str, np.ndarray]:
    """A configuration of a glass former as GlassBench has them."""
    fractions, codes, _ = _atoms()
    edge = (12 / 1.2) ** (1 / 3)
    positions = (fractions - 0.5) * edge
    positions[0], positions[1] = -edge / 2, 0.499 * edge
    return {
        "types": codes + 1, "initial_positions": positions, "initial_positions_inherent": positions,
        "md_prop": np.linspace(0.1, 2, 120).reshape(10, 12), "BOTAN": np.ones((10, 12)), "DEN": np.ones(12),
    }  # fmt: skip


def npzs() -> list[bytes]:
    found = []
    glass = benchmark()
    reduced = {
        "positions": glass["initial_positions"].astype(np.float32),
        "types": (glass["types"] - 1).astype(np.int8),
        "box": np.full(3, 2.2), "propensity": glass["DEN"], "propensity_half": np.ones((2, 12)),
        "temperature": np.array(0.64), "units": np.array("lj"),
    }  # fmt: skip
    botan = {"types": reduced["types"], "initial_positions": glass["initial_positions"],
             "positions": np.stack([glass["initial_positions"] + k for k in range(4)])}  # fmt: skip
    for pack, arrays in ((np.savez, glass), (np.savez_compressed, reduced), (np.savez, botan)):
        stream = BytesIO()
        pack(stream, **arrays)
        found.append(stream.getvalue())
    return found


def pickles() -> list[bytes]:
    glass = benchmark()
    start = glass["initial_positions"]
    content = {
        "positions": start, "types": glass["types"] - 1, "box": np.full(3, 2.2), "time": np.arange(9) * 0.1,
        "time_indices": np.array([3, 8]), "is_values": [0.9, 0.4],
        "trajectory_start_velocities": [start] * 2,
        "trajectory_target_positions": [[start + t + k for k in range(2)] for t in range(2)],
        "metadata": {"temperature": 0.44, "fluid": "Kob-Andersen"},
    }  # fmt: skip
    return [pickle.dumps(content, protocol) for protocol in (2, 3, 4, 5)]


def traj() -> list[bytes]:
    return _with_ase("traj")


def bins() -> list[bytes]:
    frames = [make_frame(seed, 12, triclinic) for triclinic in (False, True) for seed in (0, 1)]
    columns = ["id", "type", "xs", "ys", "zs", "mol", "vx"]
    return [
        b"".join(dump_binary(frame, columns[1:], 2, (0, 1, 2), "metal", 1.5) for frame in frames[:2]),
        b"".join(dump_binary(frame, columns) for frame in frames[2:]),
        b"".join(
            dump_binary(frame, columns, general=True, style="DUMPATOM", order=">") for frame in frames[2:]
        ),
    ]


@cache
def of(kind: str) -> tuple[list[bytes], str]:
    """Return the valid files of a kind, and their suffix."""
    if kind == "traj":
        return traj(), ".traj"
    if kind == "bin":
        return bins(), ".bin"
    if kind in ("npz", "pickle"):
        return (npzs() if kind == "npz" else pickles()), f".{kind}"
    if kind == "pdb":
        return _with_ase("proteindatabank"), ".pdb"
    if kind == "cif":
        return _with_ase("cif"), ".cif"
    make, suffix = {
        "dump": (dumps, ".dump"), "xyz": (xyzs, ".xyz"), "xdatcar": (xdatcars, ".XDATCAR"),
        "gro": (gros, ".gro"), "poscar": (poscars, ".POSCAR"), "data": (datas, ".data"),
    }[kind]  # fmt: skip
    return [text.encode() for text in make()], suffix
