"""Dissolve atoms of each liquid of the melt in the other, which coarsening does not do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from phaseseg.simulate.engine import Codes, Vectors
from phaseseg.simulate.melt_model import melt_recipe


def dissolve(
    codes: Codes, positions: Vectors, edge: float, counts: tuple[int, int], rng: np.random.Generator
) -> tuple[Codes, Vectors]:
    """Species and positions of a coarsened cell with atoms of each liquid dissolved in the other.

    Fe of the metal changes places with Si of the silicate, N with O, and O moves from the silicate into holes
    of the metal. The rank of the local fraction of Fe decides which liquid an atom is in, so a cell that has
    not separated (after a shortened run) works as well.

    counts : numbers of Fe and Si, and of N, that change places (`dissolved_counts` for the whole cell)
    """
    m, ns = counts
    names = list(melt_recipe()["species"])
    code = {name: names.index(name) for name in names}
    positions = positions % edge
    n_grid = round(edge)
    cell = np.minimum((positions / edge * n_grid).astype(np.int64), n_grid - 1)

    def density(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        count = np.zeros((n_grid,) * 3)
        np.add.at(count, tuple(cell[mask].T), 1.0)
        smooth: NDArray[np.float64] = gaussian_filter(count, 2.0 * n_grid / edge, mode="wrap")
        return smooth

    fraction = density(codes == code["Fe"]) / density(np.ones(len(codes), dtype=bool))
    local = fraction[tuple(cell.T)]

    def pick(name: str, n: int, metal: bool) -> NDArray[np.int64]:
        members = np.flatnonzero(codes == code[name])
        ranked = members[np.argsort(local[members], kind="stable")]
        half = ranked[len(ranked) // 2 :] if metal else ranked[: (len(ranked) + 1) // 2]
        chosen: NDArray[np.int64] = rng.choice(half, n, replace=False)
        return chosen

    codes, positions = codes.copy(), positions.copy()
    iron, silicon = pick("Fe", m, True), pick("Si", m, False)
    oxygen = pick("O", m + ns, False)
    nitrogen = pick("N", ns, True)
    swapped, moved = oxygen[:ns], oxygen[ns:]
    for a, b in ((iron, silicon), (nitrogen, swapped)):
        positions[a], positions[b] = positions[b].copy(), positions[a].copy()
    for atoms, name in ((iron, "Fe2"), (silicon, "Si0"), (nitrogen, "Ns"), (oxygen, "O0")):
        codes[atoms] = code[name]
    stays = np.ones(len(codes), dtype=bool)
    stays[moved] = False
    positions[moved] = _holes(positions[stays], edge, fraction, len(moved), rng)
    return codes, positions


def _holes(positions: Vectors, edge: float, fraction: Vectors, n: int, rng: np.random.Generator) -> Vectors:
    """The n roomiest of many random points in the metal, 3 Å apart where possible."""
    points = rng.uniform(0.0, edge, (400 * n, 3))
    index = np.minimum((points / edge * len(fraction)).astype(np.int64), len(fraction) - 1)
    local = fraction[tuple(index.T)]
    points = points[local >= np.quantile(local, 0.85)]
    clearance, _ = cKDTree(positions % edge, boxsize=edge).query(points)
    points = points[np.argsort(-clearance, kind="stable")]
    for distance in (3.0, 2.0, 0.0):
        chosen: list[NDArray[np.float64]] = []
        for point in points:
            if chosen:
                apart = np.array(chosen) - point
                apart -= edge * np.rint(apart / edge)
                if (apart**2).sum(axis=1).min() < distance**2:
                    continue
            chosen.append(point)
            if len(chosen) == n:
                return np.array(chosen)
    raise AssertionError("more points than holes are always drawn")
