"""Frames and files that the tests of readers and writers share."""

from __future__ import annotations

import struct

import numpy as np
from ase import Atoms

from phaseseg.frame import Frame
from phaseseg.io.lammps_data import STYLES

NAMES = ("Fe", "Mg", "O")
SCALED = {"xs", "ys", "zs", "xsu", "ysu", "zsu"}


def make_frame(seed=0, n_atoms=30, triclinic=True, pbc=(True, True, False), n_frames_in=0):
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(8, 15, 3))
    if triclinic:
        cell[1, 0], cell[2, 0], cell[2, 1] = rng.uniform(-3, 3, 3)
    origin = rng.uniform(-5, 5, 3)
    species = rng.integers(0, 3, n_atoms)
    species[:3] = (0, 1, 2)  # all of them, in order of first appearance
    return Frame(
        positions=np.round(origin + rng.random((n_atoms, 3)) @ cell, 8),
        cell=cell,
        origin=origin,
        pbc=pbc,
        species=species,
        species_names=NAMES,
        ids=rng.permutation(n_atoms) + 1,
        timestep=1000 * (1 + n_frames_in),
    )


def assert_same(one, other, *, origin=True, ids=True, atol=1e-9):
    np.testing.assert_allclose(one.positions, other.positions, rtol=0, atol=atol)
    np.testing.assert_allclose(one.cell, other.cell, rtol=0, atol=atol)
    np.testing.assert_array_equal(one.pbc, other.pbc)
    if origin:
        np.testing.assert_allclose(one.origin, other.origin, rtol=0, atol=atol)
    if ids:
        np.testing.assert_array_equal(one.ids, other.ids)
    symbols = [np.array(frame.species_names)[frame.species].tolist() for frame in (one, other)]
    assert symbols[0] == symbols[1]


def dump_text(frame, columns, flags="pp ff ss", number="{:.10g}", time=None, units=None):
    """A dump in any column order, written by code that shares nothing with the package's writer."""
    fractional = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = frame.cell
    x, y, z = frame.origin
    corners = [a * xy + b * xz for a in (0, 1) for b in (0, 1)]
    bounds = [
        (x + min(corners), x + lx + max(corners), xy),
        (y + min(0, yz), y + ly + max(0, yz), xz),
        (z, z + lz, yz),
    ]
    tilted = bool(xy or xz or yz)
    lines = ["ITEM: UNITS", units] if units else []
    lines += ["ITEM: TIME", repr(time)] if time is not None else []
    lines += ["ITEM: TIMESTEP", str(frame.timestep), "ITEM: NUMBER OF ATOMS", str(len(frame))]
    lines.append(f"ITEM: BOX BOUNDS {'xy xz yz ' if tilted else ''}{flags}")
    lines += [" ".join(f"{value:.17g}" for value in row[: 3 if tilted else 2]) for row in bounds]
    lines.append("ITEM: ATOMS " + " ".join(columns) + " ")
    for row in range(len(frame)):
        words = []
        for column in columns:
            if column in ("id", "type", "element"):
                code = frame.species[row]
                words.append({"id": frame.ids[row], "type": code + 1, "element": NAMES[code]}[column])
            elif column[0] in "xyz":
                axis = "xyz".index(column[0])
                words.append(number.format((fractional if column in SCALED else frame.positions)[row, axis]))
            else:
                words.append("-1.5e-03")
        lines.append(" ".join(str(word) for word in words) + " ")
    return "\n".join(lines) + "\n"


def make_atoms(seed=0, pbc=(True, False, True)):
    frame = make_frame(seed)
    symbols = np.array(NAMES)[frame.species]
    return Atoms(symbols, frame.positions - frame.origin, cell=frame.cell, pbc=pbc)


MASSES = ("55.845", "24.305", "15.999")
COMMENTED = "".join(
    f"{k} {mass} # {name}\n" for k, (mass, name) in enumerate(zip(MASSES, NAMES, strict=True), 1)
)
PLAIN_MASSES = "".join(f"{k} {mass}\n" for k, mass in enumerate(MASSES, 1))


def data_text(
    frame, style="atomic", comment=None, masses=COMMENTED, images=None, charge="-0.5", types=None,
    title="LAMMPS data file via write_data, version 2 Aug 2023, timestep = 7000, units = metal",
):  # fmt: skip
    """A data file, written by code that shares nothing with the reader but the table of styles."""
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = frame.cell
    x, y, z = frame.origin.tolist()
    lines = [title, "", f"{len(frame)} atoms", "3 atom types", "2 bonds", "1 bond types", ""]
    lines += [f"{low!r} {low + edge!r} {axis}lo {axis}hi  # edges" for low, edge, axis in
              zip((x, y, z), (float(lx), float(ly), float(lz)), "xyz", strict=True)]  # fmt: skip
    if xy or xz or yz:
        lines.append(" ".join(repr(float(tilt)) for tilt in (xy, xz, yz)) + " xy xz yz")
    lines += (
        [
            "",
            "Masses",
            "",
            masses.rstrip(),
            "",
            "Pair Coeffs # lj/cut",
            "",
            "1 0.1 3.0",
            "2 0.1 3.0",
            "3 0.1 3.0",
            "",
        ]
        if masses
        else [""]
    )
    lines += [f"Atoms # {comment}" if comment else "Atoms", ""]
    words = {"q": charge, "diameter": "1.0", "density": "2.5", "ellipsoid": "0", "volume": "1.0", "line": "0"}
    for row in range(len(frame)):
        of = {**words, "id": frame.ids[row], "type": frame.species[row] + 1 if types is None else types[row]}
        of["mol"] = 1 + row // 3
        of |= dict(zip("xyz", (repr(float(v)) for v in frame.positions[row]), strict=True))
        columns = [str(of.get(title, "0.25")) for title in STYLES[style].split()]
        columns += [] if images is None else [str(n) for n in images[row]]
        lines.append(" ".join(columns))
    return "\n".join(
        [*lines, "", "Velocities", "", "1 0.1 0.2 0.3", "", "Bonds", "", "1 1 1 2", "2 1 2 3", ""]
    )


def dump_binary(
    frame, columns, n_processes=1, flags=None, units="", time=None, order="<", style="DUMPCUSTOM",
    general=False,
):  # fmt: skip
    """A frame of a binary dump, written by code that shares nothing with the reader."""
    flags = np.where(frame.pbc, 0, 1) if flags is None else flags
    ids = np.arange(1, len(frame) + 1) if frame.ids is None else frame.ids
    fractional = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)
    known = {"id": ids, "type": frame.species + 1, "element": frame.species + 1}
    for axis, name in enumerate("xyz"):
        known |= {name: frame.positions[:, axis], f"{name}s": fractional[:, axis], f"v{name}": -ids / 8}
    rows = np.array([known.get(title, np.full(len(frame), 3.0)) for title in columns]).T
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = frame.cell
    tilted = bool(xy or xz or yz)
    corners = [a * xy + b * xz for a in (0, 1) for b in (0, 1)]
    bounds = [min(corners), max(corners) + lx, min(0, yz), max(0, yz) + ly, 0, lz]
    box = np.repeat(frame.origin, 2) + bounds
    numbers = [*frame.cell.ravel(), *frame.origin] if general else [*box, *((xy, xz, yz) if tilted else ())]
    titles = " ".join(columns).encode()
    parts = [
        struct.pack(f"{order}q", -len(style)), style.encode(),
        struct.pack(f"{order}iiqqi", 1, 2, frame.timestep, len(frame), 2 if general else int(tilted)),
        struct.pack(f"{order}6i", *np.repeat(flags, 2)), struct.pack(f"{order}{len(numbers)}d", *numbers),
        struct.pack(f"{order}ii", len(columns), len(units)), units.encode(),
        b"\0" if time is None else b"\1" + struct.pack(f"{order}d", time),
        struct.pack(f"{order}i", len(titles)), titles, struct.pack(f"{order}i", n_processes),
    ]  # fmt: skip
    for part in np.array_split(rows, n_processes):
        parts += [struct.pack(f"{order}i", part.size), part.astype(f"{order}f8").tobytes()]
    return b"".join(parts)
