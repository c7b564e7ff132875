"""Areas of predictions at free surfaces: `python -m phaseseg.recipes.segmentation.voids`.

Pieces are cut from the bundled melts: droplets and cylinders at several places, slabs, holes and every mix of
open axes. The interface area of each network is compared with that of labels by the rule of the network. The
table shows the deviation of the area and the fraction of atoms on another side.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from phaseseg import Frame, label_phases, load_model, read_frames
from phaseseg.families.segmentation.model import SegmentationModel

NETWORKS = ("gat-v1", "gat-3000K-v1", "gat-4000K-v1", "gcn-3000K-v1", "gcn-4000K-v1")
# Å^2; a metal ball that a label would drop, of 200 Å^3, has 165.
LEAST_AREA = 300.0
# Middles of droplets and cylinders, as fractions of the cell.
PLACES = ((0.5, 0.5, 0.5), (0.0, 0.0, 0.0), (0.5, 0.0, 0.25), (0.0, 0.5, 0.75))
MELTS = [Path(str(files("phaseseg"))) / "demo" / f"melt_large_{t}K.dump.gz" for t in (3000, 4000)]


def pieces(frame: Frame) -> Iterator[tuple[str, Frame]]:
    """Yield names and pieces of a frame; the first is the whole frame, without a void."""
    yield "periodic", frame
    lengths = np.linalg.norm(frame.cell, axis=1)
    whole = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)
    for place in PLACES:
        fractions = whole - place
        apart = (fractions - np.rint(fractions)) @ frame.cell
        far, off = np.linalg.norm(apart, axis=1), np.linalg.norm(apart[:, :2], axis=1)
        shapes = [("droplet", r, far, False) for r in (8.0, 10.0, 12.0, 15.0, 20.0, 25.0)]
        shapes += [("cylinder", r, off, True) for r in (10.0, 15.0)]
        for shape, r, radius, along in shapes:
            inside, periodic = radius < r, (False, False, along)
            yield f"{shape} of {r:g} Å", frame.take(inside).replace(positions=apart[inside], pbc=periodic)
    fractions = whole - np.floor(whole)
    radius = np.linalg.norm((fractions - 0.5) @ frame.cell, axis=1)
    for r in (6.0, 12.0):
        yield f"hole of {r:g} Å", frame.take(radius > r)
    for pbc in product((True, False), repeat=3):
        if not all(pbc):
            yield (
                "open axes " + "".join(a for a, p in zip("abc", pbc, strict=True) if not p),
                frame.replace(pbc=pbc),
            )
    depth = fractions[:, 2] * lengths[2]
    for thick in (10.0, 16.0, 30.0):
        yield f"slab of {thick:g} Å", frame.take(depth < thick).replace(pbc=(True, True, False))
    for gap in (6.0, 9.0):
        yield f"gap of {gap:g} Å", frame.take(depth > gap)


def deviation(model: SegmentationModel, frame: Frame) -> tuple[float, float] | None:
    """Return the deviation of the area, and the fraction of atoms on another side, both in percent.

    None without an interface, and for one so small that neither is more than noise.
    """
    rule = model.label_rule
    expected = label_phases(frame, sigma=rule.sigma, threshold=rule.threshold)
    if expected["interface_area"] < LEAST_AREA:
        return None
    found = model.predict(frame)
    area = found["interface_area"] / expected["interface_area"] - 1
    moved = (found["interface_distance"] > 0) != (expected["interface_distance"] > 0)
    return 100 * area, 100 * float(moved.mean())


def deviations(model: SegmentationModel, melt: str | Path) -> Iterator[tuple[str, float, float]]:
    """Yield the names of the pieces of the first frame of a file, and their deviations."""
    for piece, cut in pieces(next(read_frames(melt))):
        if (found := deviation(model, cut)) is not None:
            yield piece, *found


def by_shape(model: SegmentationModel) -> list[dict[str, Any]]:
    """Return a row for every shape with a void that is cut from the bundled melts."""
    found: dict[str, list[tuple[float, float]]] = {}
    for melt in MELTS:
        for piece, *both in deviations(model, melt):
            if piece != "periodic":
                shape = "open axes" if piece.startswith("open axes") else piece
                found.setdefault(shape, []).append((both[0], both[1]))
    rows = []
    for shape, numbers in found.items():
        areas, atoms = np.array(numbers).T
        row = {
            "shape": shape, "pieces": len(areas), "rms of the area (%)": float(np.sqrt((areas**2).mean())),
            "largest (%)": float(areas[abs(areas).argmax()]),
            "atoms on another side (%)": float(atoms.mean()),
        }  # fmt: skip
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m phaseseg.recipes.segmentation.voids", description=__doc__
    )
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--files", nargs="+", help="melts in closed cells; the first frame of each is used")
    given = parser.parse_args()
    melts = given.files or MELTS
    for name in given.networks:
        model = load_model(f"segmentation/{name}")
        assert isinstance(model, SegmentationModel)
        found = []
        for melt in melts:
            for piece, area, atoms in deviations(model, melt):
                print(f"{name:14} {Path(melt).name} {piece:18} {area:+6.1f} %   {atoms:4.1f} %", flush=True)
                found += [] if piece == "periodic" else [area]
        areas = np.array(found)
        rms, most = np.sqrt((areas**2).mean()), abs(areas).max()
        above = int((abs(areas) > 5).sum())
        print(
            f"{name}: {len(areas)} pieces with voids; rms {rms:.1f} %, most {most:.1f} %, {above} above 5 %"
        )


if __name__ == "__main__":
    main()
