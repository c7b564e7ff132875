"""Graph filters: fixed sums over shells of neighbors of one type, and the network on them without PyTorch.

A round of the network is h <- h + SiLU(W₀ y + Σ_k W_k S_k y + b) with y = LayerNorm(h): the operators S_k are
fixed, only the products after them are learned. `filter_network` is the twin in PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.compiled.threads import in_parts
from phaseseg.families.mobility.descriptor_kernels import filter_columns, filter_rows
from phaseseg.families.mobility.descriptors import AVERAGING_CUTOFF, checked_codes
from phaseseg.frame import Frame
from phaseseg.neighbors import neighbor_graph

Floats = NDArray[np.float32]

SHELL_EDGES = (0.0, 1.45, 2.2)
"""The first shell of neighbors, and the second."""
TYPE_SCALES = (2 / 13, 2 / 3)
"""Factors of sums over A and over B, which bring both to the order of 1 in a first shell."""
N_OPERATORS = (len(SHELL_EDGES) - 1) * len(TYPE_SCALES)
CLIP = 5.0
"""Standardized inputs are clipped to ± this."""
EPSILON = 1e-5
_SCALES = np.array(TYPE_SCALES, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Filters:
    """The operators S_k of a frame: for each shell and type of neighbor, scale_t Σ_j e^(-r/2.1) y_j.

    indptr : (n + 1,) int64; neighbors : (n_edges,) int32; weights : (n_edges,) float32, symmetric
    shells : (n_edges,) int8, shell of each edge
    codes : (n,) int32, types
    """

    indptr: NDArray[np.int64]
    neighbors: NDArray[np.int32]
    weights: Floats
    shells: NDArray[np.int8]
    codes: NDArray[np.int32]

    def __call__(self, rows: Floats) -> Floats:
        """(n, 4 columns): the sums of (n, columns) values, shell by shell, over A before B."""
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        out = np.zeros((len(rows), N_OPERATORS * rows.shape[1]), dtype=np.float32)
        in_parts(filter_rows, len(rows), *self._operators, rows, out, least=512)
        return out

    def transposed(self, rows: Floats) -> Floats:
        """(n, columns) from (n, 4 columns): the transposed operator, for gradients."""
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        out = np.zeros((len(rows), rows.shape[1] // N_OPERATORS), dtype=np.float32)
        in_parts(filter_columns, len(rows), *self._operators, rows, out, least=512)
        return out

    @property
    def _operators(self) -> tuple[NDArray[Any], ...]:
        return self.indptr, self.neighbors, self.weights, self.shells, self.codes, _SCALES


def filters_of(frame: Frame, codes: ArrayLike) -> Filters:
    """Return the operators of a frame with particles of types 0 (A) and 1 (B); lengths in σ_AA."""
    types = checked_codes(frame, codes, len(TYPE_SCALES))
    graph = neighbor_graph(frame, cutoff=SHELL_EDGES[-1])
    weights = np.exp(-graph.edge_length / np.float32(AVERAGING_CUTOFF))
    shells = np.searchsorted(SHELL_EDGES[1:-1], graph.edge_length).astype(np.int8)
    return Filters(graph.indptr, graph.neighbors, weights, shells, types)


def network_inputs(rows: Floats, codes: NDArray[np.int32], center: Floats, scale: Floats) -> Floats:
    """(n, columns + 1): values standardized for each type and clipped, then the type as -1 or 1.

    center, scale : (2, columns)
    """
    standard = (rows - center[codes]) / scale[codes]
    return np.concatenate(
        [np.clip(standard, -CLIP, CLIP), np.where(codes == 0, -1, 1)[:, None]], axis=1, dtype=np.float32
    )


def filter_outputs(
    weights: Mapping[str, Floats], inputs: Floats, filters: Filters, rounds: int
) -> NDArray[np.float32]:
    """Return (n, 2 n_targets) float32: the outputs of a network, for A and then for B.

    weights : as in `FilterConfig.weight_shapes`
    inputs : from `network_inputs`
    """
    h = inputs @ weights["input.weight"].T + weights["input.bias"]
    every = [h]
    for k in range(rounds):
        y = _normalized(h, weights[f"norm.{k}.weight"], weights[f"norm.{k}.bias"])
        own, sums = weights[f"own.{k}.weight"], weights[f"sums.{k}.weight"]
        a = y @ own.T + filters(y) @ sums.T + weights[f"own.{k}.bias"]
        h = h + a / (1 + np.exp(-a))
        every.append(h)
    found = np.concatenate(every, axis=1) @ weights["output.weight"].T + weights["output.bias"]
    return np.asarray(found, dtype=np.float32)


def _normalized(h: Floats, weight: Floats, bias: Floats) -> Floats:
    centered = h - h.mean(axis=1, keepdims=True)
    variance = np.mean(centered * centered, axis=1, keepdims=True)
    return np.asarray(centered / np.sqrt(variance + np.float32(EPSILON)) * weight + bias)
