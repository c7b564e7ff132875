"""Descriptors of the structure around every particle: radial, bond order, and averages over neighbors.

Lengths are in units of σ_AA of a Lennard-Jones mixture; the grids are made for a number density near 1.2.
All work in any cell: triclinic, open along some axes, or smaller than a cutoff.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial, prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.compiled.threads import for_each, in_parts
from phaseseg.families.mobility.descriptor_kernels import (
    PARTS,
    TAPS,
    bond_order_sums,
    radial_sums,
    sum_rows,
)
from phaseseg.frame import Frame
from phaseseg.neighbors import neighbor_graph
from phaseseg.neighbors.bins import sort_into_bins

Floats = NDArray[np.float32]

RADIAL_CUTOFF = 5.0
GRIDS = ((0.75, 0.025, 50), (2.0, 0.1, 28))
"""First center, step (equal to the width) and number of the centers of the radial descriptors."""
CENTERS = np.concatenate([first + step * np.arange(n) for first, step, n in GRIDS])
N_RADIAL = len(CENTERS)

DEGREES = (2, 3, 4, 5, 6, 8)
SHELLS = (1.1, 1.5, 1.9)
SHELL_WIDTH = 0.2
BOND_ORDER_CUTOFF = SHELLS[-1] + 5 * SHELL_WIDTH

AVERAGING_CUTOFF = 2.1


def radial_descriptors(frame: Frame, codes: ArrayLike, n_types: int = 2) -> Floats:
    """Return the radial densities of each type of neighbor around every particle.

    G_i(t, k) = sum over the neighbors j of type t with r_ij <= 5 of exp(-(r_ij - c_k)^2 / 2 w_k^2), with
    c = 0.75, 0.775 ... 1.975 (w = 0.025) and 2.0, 2.1 ... 4.7 (w = 0.1). A particle without neighbors has
    zeros. Time is linear in the number of particles.

    Parameters
    ----------
    frame : lengths in σ_AA
    codes : (n,) integers, type of each particle from 0 to n_types - 1

    Returns
    -------
    (n, 78 n_types) float32
        Centers of type 0 first.

    Raises
    ------
    ValueError
        For codes of another length or out of range.

    References
    ----------
    Boattini, Smallenburg, Filion, Phys. Rev. Lett. 127, 088007 (2021), doi:10.1103/PhysRevLett.127.088007.
    """
    types = checked_codes(frame, codes, n_types)
    out = np.zeros((frame.n_atoms, N_RADIAL * n_types), dtype=np.float32)
    if not frame.n_atoms:
        return out
    bins = sort_into_bins(frame, RADIAL_CUTOFF, types, n_types)
    first, width, number = (np.array(column) for column in zip(*GRIDS, strict=True))
    middles = (np.arange(PARTS) + 0.5) / PARTS - 0.5
    gaussians = np.exp(-0.5 * (middles[:, None] - (np.arange(TAPS) - TAPS // 2)) ** 2).astype(np.float32)
    grids = first.astype(np.float32), width.astype(np.float32), number
    for_each(lambda part: radial_sums(*part, bins, *grids, gaussians, out), bins.parts(512))
    return out


def bond_order_descriptors(frame: Frame) -> Floats:
    """Return the bond-orientational invariants of three soft shells around every particle.

    q_l(i, c) = sqrt(4 π / (2l + 1) Σ_m |Σ_j w_j Y_lm(r_ij)|²) / Σ_j w_j with
    w_j = exp(-(r_ij - c)² / 2 · 0.2²), for c = 1.1, 1.5, 1.9 and l = 2, 3, 4, 5, 6, 8, over neighbors with
    r <= 2.9. It is between 0 and 1, and 0 for a particle without neighbors.

    Returns
    -------
    (n, 18) float32
        The six values of c = 1.1 first.

    References
    ----------
    Steinhardt, Nelson, Ronchetti, Phys. Rev. B 28, 784 (1983), doi:10.1103/PhysRevB.28.784.
    """
    out = np.zeros((frame.n_atoms, len(DEGREES) * len(SHELLS)), dtype=np.float32)
    if not frame.n_atoms:
        return out
    highest = max(DEGREES)
    wanted = np.isin(np.arange(highest + 1), DEGREES)
    norms = np.zeros((highest + 1, highest + 1))
    for degree in DEGREES:
        for m in range(degree + 1):
            # The Legendre functions in the kernel start from 1 instead of (2m - 1)!!; -m counts as m does.
            odd = prod(range(1, 2 * m, 2))
            ratio = factorial(degree - m) / factorial(degree + m)
            norms[degree, m] = (1 if m == 0 else 2) * ratio * odd**2
    bins = sort_into_bins(frame, BOND_ORDER_CUTOFF)
    shells = np.array(SHELLS, dtype=np.float32), np.float32(SHELL_WIDTH)
    for_each(lambda part: bond_order_sums(*part, bins, *shells, wanted, norms, out), bins.parts(512))
    return out


def structure_descriptors(frame: Frame, codes: ArrayLike, n_types: int = 2) -> Floats:
    """Return the radial densities, then the bond order: (n, 174) float32 for two types."""
    return np.concatenate([radial_descriptors(frame, codes, n_types), bond_order_descriptors(frame)], axis=1)


# -------------------------------------------------------------------------------------- operators


@dataclass(frozen=True, eq=False)
class NeighborSum:
    """A linear operator over neighbors: (S x)_i = scale_i (own x_i + Σ_j weight_ij x_j).

    indptr : (n + 1,) int64; neighbors : (n_edges,) int32; weights : (n_edges,) float32
    own : factor of the particle itself; scale : (n,) float32
    """

    indptr: NDArray[np.int64]
    neighbors: NDArray[np.int32]
    weights: Floats
    own: float
    scale: Floats

    @property
    def n_atoms(self) -> int:
        return len(self.scale)

    def __call__(self, rows: NDArray[Any]) -> Floats:
        """Apply the operator to (n, columns) values."""
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        if rows.ndim != 2 or len(rows) != self.n_atoms:
            raise ValueError(f"the operator needs rows for {self.n_atoms} particles, found {rows.shape}.")
        out = np.empty_like(rows)
        edges = self.indptr, self.neighbors, self.weights
        in_parts(sum_rows, len(rows), *edges, np.float32(self.own), self.scale, rows, out, least=512)
        return out


def averaging(frame: Frame) -> NeighborSum:
    """Return the average over neighbors: (F_i + Σ_j e^(-r/2.1) F_j) / (1 + Σ_j e^(-r/2.1)) for r <= 2.1."""
    graph = neighbor_graph(frame, cutoff=AVERAGING_CUTOFF)
    weights = np.exp(-graph.edge_length / np.float32(AVERAGING_CUTOFF))
    totals = np.bincount(graph.edge_index[0], weights, minlength=frame.n_atoms)
    scale = (1 / (1 + totals)).astype(np.float32)
    return NeighborSum(graph.indptr, graph.neighbors, weights, 1.0, scale)


def averages(rows: NDArray[Any], operator: NeighborSum, rounds: int) -> Floats:
    """Return (n, columns (rounds + 1)): the values, then their averages of 1 ... `rounds` rounds."""
    found = [np.ascontiguousarray(rows, dtype=np.float32)]
    for _ in range(rounds):
        found.append(operator(found[-1]))
    return np.concatenate(found, axis=1)


def checked_codes(frame: Frame, codes: ArrayLike, n_types: int) -> NDArray[np.int32]:
    """Return the type codes as (n,) int32; ValueError if they do not fit the frame."""
    types = np.asarray(codes)
    if types.shape != (frame.n_atoms,) or types.dtype.kind not in "iub":
        raise ValueError(
            f"{frame.error_prefix}{frame.n_atoms} particles need one integer type code each, found an array "
            f"{types.shape} of {types.dtype}."
        )
    if frame.n_atoms and not 0 <= types.min() <= types.max() < n_types:
        raise ValueError(
            f"{frame.error_prefix}type codes must lie between 0 and {n_types - 1}, found {types.min()} to "
            f"{types.max()}."
        )
    return types.astype(np.int32)
