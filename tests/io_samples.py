"""Frames and files that the tests of readers and writers share."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from phaseseg.frame import Frame

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
