"""From a frame to the logits of a network, in float32 on one core, linear in atoms. No torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.segmentation import walk
from phaseseg.families.segmentation.network import NetworkConfig
from phaseseg.frame import Frame
from phaseseg.graph import Bins, sort_into_bins
from phaseseg.memory import borrow


def node_features(
    frame: Frame, codes: NDArray[np.integer[Any]], config: NetworkConfig
) -> NDArray[np.float32]:
    """Raw features of every atom: (n_atoms, F) float32, in the order of the frame; see `NetworkConfig`.

    codes : (n_atoms,) index of each atom's species in `config.species`

    An atom without target neighbors has the cutoff as their mean distance and no variance; one without
    neighbors the target fraction 0.
    """
    bins, rows = _sorted_features(frame, codes, config, config.n_features)
    features = np.empty((frame.n_atoms, config.n_features), dtype=np.float32)
    features[bins.order] = rows
    return features


def _sorted_features(
    frame: Frame, codes: NDArray[np.integer[Any]], config: NetworkConfig, width: int
) -> tuple[Bins, NDArray[np.float32]]:
    """Bins, and the raw features (n_atoms, width) in their order, zeros behind them."""
    n_species = len(config.species)
    rows = borrow((frame.n_atoms, width), np.float32)
    if config.features == "counts":
        kinds = np.array(
            [(name in config.target) + 2 * (name in config.counter) for name in config.species],
            dtype=np.int32,
        )
        bins = sort_into_bins(frame, config.cutoff, kinds[codes], 4)
    else:
        bins = sort_into_bins(frame, config.cutoff, codes, n_species)
    rows.fill(0)
    rows[np.arange(frame.n_atoms), codes[bins.order]] = 1
    if config.features == "counts":
        walk.count_features(bins, n_species, config.cutoff, rows)
    else:
        walk.density_features(bins, np.array(config.widths), rows)
    return bins, rows
