"""Make the files of docs/your-own-liquid.md: a slab of liquid argon and one of water, each with its vapor.

    python docs/examples/make_own_liquids.py [argon] [water] [--output FOLDER] [--scale 1]

Needs the extra `simulate`. Takes about three minutes on one core; --scale 0.01 is a trial.

Argon: Lennard-Jones, epsilon 0.0103 eV, sigma 3.405 Å, cut off at 12 Å; 3888 atoms at 90 K. Water: SPC/E
(DOI 10.1021/j100308a038), rigid by SHAKE, with PPPM; 704 molecules at 330 K. Both start from a lattice that
is melted hot, and only the last frame is written.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.simulate.engine import import_lammps

SEED = 2026
BOND, HALF_ANGLE = 1.0, np.radians(109.47) / 2  # of SPC/E, Å
Positions = NDArray[np.float64]


def lattice(shape: tuple[int, int, int], spacing: float, basis: list[list[float]]) -> Positions:
    """Positions of a lattice whose cells are cubes."""
    cells = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 1, 3)
    return ((cells + np.array(basis)).reshape(-1, 3) + 0.25) * spacing


def start(units: str, style: str, box: Positions) -> Any:
    engine = import_lammps().lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    extra = (
        " bond/types 1 angle/types 1 extra/bond/per/atom 2 extra/angle/per/atom 1" if style == "full" else ""
    )
    extra += " extra/special/per/atom 2" if style == "full" else ""
    x, y, z = box
    engine.commands_list([
        f"units {units}", f"atom_style {style}", f"region box block 0 {x} 0 {y} 0 {z}",
        f"create_box {2 if style == 'full' else 1} box{extra}",
    ])  # fmt: skip
    return engine


def place(engine: Any, types: list[int], positions: Positions) -> None:
    engine.create_atoms(len(types), list(range(1, len(types) + 1)), types, positions.ravel().tolist(), None)


def gathered(engine: Any, box: Positions) -> Positions:
    found = np.array(engine.gather_atoms("x", 1, 3)).reshape(-1, 3)
    found[:, 2] += box[2] / 2 - found[:, 2].mean()  # the slab in the middle
    return found % box


def write(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"Written: {path} ({path.stat().st_size / 1e3:.0f} kB)")


def argon(folder: Path, scale: float) -> None:
    basis = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    spacing = 5.8
    box = spacing * np.array([9, 9, 21.0])
    positions = lattice((9, 9, 12), spacing, basis) + np.array([0, 0, 4.5 * spacing])
    engine = start("metal", "atomic", box)
    place(engine, [1] * len(positions), positions)
    engine.commands_list([
        "mass 1 39.948", "pair_style lj/cut/opt 12.0", "pair_coeff 1 1 0.0103 3.405", "timestep 0.01",
        "thermo 1000000000", f"velocity all create 180 {SEED} mom yes",
        "fix move all nve", f"fix bath all langevin 150 150 0.5 {SEED}", f"run {round(2000 * scale)}",
        f"fix bath all langevin 90 90 0.5 {SEED + 1}", f"run {round(8000 * scale)}",
    ])  # fmt: skip
    print(f"Argon: {len(positions)} atoms, {engine.get_thermo('temp'):.1f} K")
    rows = "\n".join(
        f"{i} 1 {x:.2f} {y:.2f} {z:.2f}" for i, (x, y, z) in enumerate(gathered(engine, box), start=1)
    )
    bounds = "\n".join(f"0 {edge:.6g}" for edge in box)
    write(
        folder / "argon.dump.gz",
        f"ITEM: TIMESTEP\n{round(10_000 * scale)}\nITEM: NUMBER OF ATOMS\n{len(positions)}\n"
        f"ITEM: BOX BOUNDS pp pp pp\n{bounds}\nITEM: ATOMS id type x y z\n{rows}\n",
    )


def water(folder: Path, scale: float) -> None:
    rng = np.random.default_rng(SEED)
    spacing = 3.1
    box = np.array([8 * spacing, 8 * spacing, 80.0])
    oxygen = lattice((8, 8, 11), spacing, [[0, 0, 0]]) + np.array([0, 0, 23])
    n = len(oxygen)
    # Two random orthogonal directions of every molecule: its axis and that from H to H.
    axis, across = rng.normal(size=(2, n, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    across -= (across * axis).sum(1, keepdims=True) * axis
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    arms = [BOND * (np.cos(HALF_ANGLE) * axis + sign * np.sin(HALF_ANGLE) * across) for sign in (1, -1)]
    positions = np.stack([oxygen, oxygen + arms[0], oxygen + arms[1]], axis=1).reshape(-1, 3)
    engine = start("real", "full", box)
    place(engine, [1, 2, 2] * n, positions % box)
    engine.commands_list([
        "mass 1 15.9994", "mass 2 1.008", "set type 1 charge -0.8476", "set type 2 charge 0.4238",
        "pair_style lj/cut/coul/long 9.0", "pair_coeff 1 1 0.1553 3.166", "pair_coeff * 2 0 0",
        "kspace_style pppm 1e-3", "bond_style harmonic", "bond_coeff 1 450 1.0", "angle_style harmonic",
        "angle_coeff 1 55 109.47", "special_bonds lj/coul 0 0 0.5",
    ])  # fmt: skip
    for i in range(n):
        o, h, k = 3 * i + 1, 3 * i + 2, 3 * i + 3
        engine.commands_list([
            f"create_bonds single/bond 1 {o} {h} special no",
            f"create_bonds single/bond 1 {o} {k} special no",
            f"create_bonds single/angle 1 {h} {o} {k} special {'yes' if i == n - 1 else 'no'}",
        ])  # fmt: skip
    engine.commands_list([
        "thermo 1000000000", "minimize 0 1e-3 100 1000", "timestep 2.0",
        f"velocity all create 300 {SEED}", "fix rigid all shake 1e-4 20 0 b 1 a 1", "run 0",
        "fix move all nve/limit 0.1", f"fix bath all langevin 400 400 100 {SEED}",
        f"run {round(500 * scale)}", "unfix move", "fix move all nve", f"run {round(1500 * scale)}",
        f"fix bath all langevin 330 330 200 {SEED + 1}", f"run {round(6000 * scale)}",
    ])  # fmt: skip
    print(f"Water: {n} molecules, {engine.get_thermo('temp'):.1f} K")
    lines = ["Water (SPC/E) and its vapor, 330 K", str(3 * n)]
    for i, (x, y, z) in enumerate(gathered(engine, box) / 10):
        name = ("OW", "HW1", "HW2")[i % 3]
        lines.append(f"{i // 3 + 1:5d}{'SOL':<5}{name:>5}{i + 1:5d}{x:8.3f}{y:8.3f}{z:8.3f}")
    lines.append("".join(f"{edge / 10:10.5f}" for edge in box))
    write(folder / "water.gro.gz", "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("liquids", nargs="*", default=["argon", "water"])
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "data")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.liquids:
        {"argon": argon, "water": water}[name](arguments.output, arguments.scale)


if __name__ == "__main__":
    main()
