"""What the networks get of a frame: its atoms in bins, with their features, as a whole or part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.threads import for_each, parts_by_size
from phaseseg.families.segmentation import neighbor_sums
from phaseseg.families.segmentation.settings import NetworkConfig
from phaseseg.frame import Frame
from phaseseg.neighbors.bins import Bins, layers_of, sort_into_bins

Floats = NDArray[np.float32]

# Number of atoms whose hidden layers are in memory at once.
CHUNK = 2048
# Number of atoms for which the layers keep their values at once.
PART = 1 << 19


def node_features(frame: Frame, codes: NDArray[np.integer[Any]], config: NetworkConfig) -> Floats:
    """Return raw features of every atom, (n_atoms, F) float32, in frame order; see `NetworkConfig`.

    codes : (n_atoms,) index of each atom's species in `config.species`

    For atoms without target neighbors, the mean distance is the cutoff and the variance is 0; for atoms
    without any neighbors, the target fraction is 0.
    """
    atoms = Atoms.of(frame, codes, config, config.n_features)
    features = np.empty((frame.n_atoms, config.n_features), dtype=np.float32)
    features[atoms.bins.order] = atoms.features[: frame.n_atoms]
    return features


class Range(NamedTuple):
    """Consecutive bins.

    chunks : of about `CHUNK` atoms: first bin, last bin (exclusive), and slots
    slots : those of all chunks
    """

    chunks: list[tuple[int, int, slice]]
    slots: slice

    @classmethod
    def of(cls, bins: Bins, first: int, stop: int) -> Range:
        start = bins.start[first * bins.kinds : stop * bins.kinds + 1 : bins.kinds]
        chunks = [
            (first + a, first + b, slice(int(start[a]), int(start[b])))
            for a, b in parts_by_size(start, CHUNK)
        ]
        return cls(chunks, slice(int(start[0]), int(start[-1])))

    def each_bin(self, kernel: Callable[..., None], *args: Any) -> None:
        """Call `kernel(first, stop, *args)` for ranges of bins that cover all."""
        for_each(lambda chunk: kernel(chunk[0], chunk[1], *args), self.chunks)


def _ranges(bins: Bins, n_layers: int, own: NDArray[np.bool_] | None) -> list[Range]:
    """Bins that the outputs of some atoms depend on: number k before the last k layers.

    own : (n_atoms,) bool; None for all atoms
    """
    n_planes, n = int(bins.shape[0]), bins.n_bins
    if own is None or bins.wrap[0] or not own.any():
        return [Range.of(bins, 0, n)] * (n_layers + 1)
    in_plane, there = n // n_planes, own[bins.order]
    slots = there.argmax(), len(there) - 1 - there[::-1].argmax()
    ends = np.searchsorted(bins.start[:: bins.kinds], slots, side="right") - 1
    first, last = (ends // in_plane).tolist()
    found = []
    for k in range(n_layers + 1):
        reach = k * int(bins.reach[0])
        planes = max(first - reach, 0), min(last + 1 + reach, n_planes)
        found.append(Range.of(bins, *(plane * in_plane for plane in planes)))
    return found


def blocks_of(slots: slice) -> Iterator[slice]:
    """Parts of some slots, for NumPy to work on in the cache."""
    for first in range(slots.start, slots.stop, 1 << 16):
        yield slice(first, min(first + (1 << 16), slots.stop))


@dataclass(frozen=True, eq=False)
class Atoms:
    """Atoms of a frame, shared by all layers and members; arrays are ordered by slot.

    ranges : where the values before the last k layers are needed, for k = 0 ... layers; nothing is computed
        elsewhere
    features : (n_atoms + spare, width), initially raw; unused columns are zero
    degrees : (n_atoms,) int32, number of neighbors
    doubtful : (n_atoms,) bool, True if float32 cannot decide which neighbors are within the cutoff
    """

    bins: Bins
    ranges: list[Range]
    features: Floats
    degrees: NDArray[np.int32]
    doubtful: NDArray[np.bool_]

    @classmethod
    def of(
        cls, frame: Frame, codes: NDArray[np.integer[Any]], config: NetworkConfig, width: int,
        own: NDArray[np.bool_] | None = None,
    ) -> Atoms:  # fmt: skip
        n, n_species = frame.n_atoms, len(config.species)
        rows = rows_for(n, width)
        rows.fill(0)
        plan: list[Any]
        degrees, doubtful = borrow(n, np.int32), borrow(n, np.bool_)
        if config.features == "counts":
            # Kinds 1 and 2 are targets, kinds 2 and 3 counters, so each is a contiguous range.
            kinds = [(0, 1, 3, 2)[(s in config.target) + 2 * (s in config.counter)] for s in config.species]
            bins = sort_into_bins(frame, config.cutoff, np.array(kinds, dtype=np.int32)[codes], 4)
            kernel, plan = neighbor_sums.count_features, [n_species, config.cutoff]
        else:
            bins = sort_into_bins(frame, config.cutoff, codes, n_species)
            kernel, plan = neighbor_sums.density_features, [*_gaussians(config.widths, n_species)]
        ranges = _ranges(bins, config.layers, own)
        ranges[-1].each_bin(kernel, bins, *plan, rows, degrees, doubtful)
        for some in blocks_of(ranges[-1].slots):
            rows[np.arange(some.start, some.stop), codes[bins.order[some]]] = 1
        return cls(bins, ranges, rows, degrees, doubtful)

    def parts(self) -> Iterator[Atoms]:
        """Parts of the atoms with what their outputs depend on; layers then keep the values of one part only.

        Networks with several layers get all atoms at once: they would compute hidden layers around each part
        again.
        """
        bins, wanted = self.bins, self.ranges[0]
        if not wanted.chunks:
            return
        n, reach = int(bins.shape[0]), int(bins.reach[0])
        in_layer = bins.n_bins // n
        first, stop = wanted.chunks[0][0] // in_layer, wanted.chunks[-1][1] // in_layer
        n_atoms = wanted.slots.stop - wanted.slots.start
        thick = max(PART * (stop - first) // max(n_atoms, 1), 4 * reach, 1)
        if len(self.ranges) > 2 or stop - first + 2 * reach <= thick:
            yield self
            return
        for begin in range(first, stop, thick):
            end = min(begin + thick, stop)
            low, high = begin - reach, end + reach
            if not bins.wrap[0]:
                low, high = max(low, 0), min(high, n)
            elif high - low > n:
                yield self
                return
            yield self._part(range(low, high), begin - low, end - low)

    def _part(self, layers: range, first: int, stop: int) -> Atoms:
        """Some layers of bins across the first axis; outputs are needed for first ... stop - 1 of these.

        layers : beyond the ends they are counted on through the periodic images
        """
        period = int(self.bins.shape[0])
        cuts = [k for k in layers[1:] if k % period == 0]
        ends = pairwise([layers.start, *cuts, layers.stop])
        bins, slots = layers_of(self.bins, [range(a % period, a % period + b - a) for a, b in ends])
        n = len(bins.order)
        features, degrees = rows_for(n, self.features.shape[1]), borrow(n, np.int32)
        doubtful = borrow(n, np.bool_)
        for own, ours in (
            (features[:n], self.features), (degrees, self.degrees), (doubtful, self.doubtful),
        ):  # fmt: skip
            np.concatenate([ours[there] for there in slots], out=own)
        in_layer = bins.n_bins // len(layers)
        ranges = [Range.of(bins, first * in_layer, stop * in_layer), Range.of(bins, 0, bins.n_bins)]
        return Atoms(bins, ranges, features, degrees, doubtful)


def _gaussians(
    widths: Sequence[float], n_species: int
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return arguments of `density_features`, from wide to narrow, replacing exp by squares if possible."""
    order = sorted(range(len(widths)), key=lambda w: -widths[w])
    squarings, made = [], 0
    for place, w in enumerate(order):
        power = 2 * np.log2(widths[order[place - 1]] / widths[w]) if place else -1.0
        whole = round(power)
        # Every squaring doubles the relative error.
        fits = place > 0 and abs(power - whole) < 1e-9 and made + whole <= 2
        squarings.append(whole if fits else -1)
        made = made + whole if fits else 0
    chosen = np.array([widths[w] for w in order])
    columns = np.array([n_species * (1 + w) for w in order])
    norms = 1 / ((2 * np.pi) ** 1.5 * chosen**3)
    return (-0.5 / chosen**2).astype(np.float32), np.array(squarings), columns, norms


def rows_for(n: int, width: int) -> Floats:
    """Allocate n rows and the spare rows."""
    return borrow((n + neighbor_sums.SPARE_ROWS, width), np.float32)
