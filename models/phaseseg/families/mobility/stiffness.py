"""The local stiffness of every particle: its block of the Hessian of the potential energy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import jit
from phaseseg.compiled.threads import in_parts
from phaseseg.families.mobility.potentials import LennardJonesMixture
from phaseseg.frame import Frame
from phaseseg.neighbors import neighbor_graph


def local_stiffness(frame: Frame, potential: LennardJonesMixture) -> NDArray[np.float64]:
    """Return the 3 x 3 blocks of the Hessian on its diagonal, ε/σ²: how a particle is held by its neighbors.

    D_i = Σ_j [u''(r) r̂ r̂ᵀ + u'(r)/r (1 - r̂ r̂ᵀ)] over the pairs within the cutoff of the potential; zero for
    a particle without neighbors.

    Returns
    -------
    (n, 3, 3) float64, symmetric

    Raises
    ------
    ValueError
        For species that the potential does not know.
    """
    codes = potential.codes(frame)
    out = np.zeros((frame.n_atoms, 3, 3))
    if frame.n_atoms:
        tables = potential.tables
        graph = neighbor_graph(frame, cutoff=float(tables.cutoff.max()))
        edges = graph.indptr, graph.neighbors, graph.edge_shift
        in_parts(_add_blocks, len(out), *edges, frame.positions, frame.cell, codes, tables, out)
    return out


@jit
def _add_blocks(first_row, stop_row, indptr, neighbors, shifts, positions, cell, codes, tables, out):
    d = np.empty(3)
    for i in range(first_row, stop_row):
        for e in range(indptr[i], indptr[i + 1]):
            j, r2 = neighbors[e], 0.0
            for a in range(3):
                d[a] = positions[j, a] - positions[i, a]
                for b in range(3):
                    d[a] += shifts[e, b] * cell[b, a]
                r2 += d[a] * d[a]
            pair = codes[i] * tables.n_species + codes[j]
            if r2 >= tables.cutoff2[pair] or r2 == 0:
                continue
            x = 1 / r2
            x3 = x * x * x
            # u'(r) / r and (u''(r) - u'(r) / r) / r^2
            first = -(12 * tables.strong[pair] * x3 - 6 * tables.weak[pair]) * x3 * x
            second = (168 * tables.strong[pair] * x3 - 48 * tables.weak[pair]) * x3 * x * x
            for a in range(3):
                out[i, a, a] += first
                for b in range(3):
                    out[i, a, b] += second * d[a] * d[b]
