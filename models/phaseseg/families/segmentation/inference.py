"""The networks without torch: from a frame to logits, in float32 on one core, linear in the number of atoms.

Sums over neighbors are computed bin by bin (`neighbor_sums`); nothing is stored for a pair. Two identities
make them cheap. First, the weight of a pair in the attention is a product of numbers that belong to its
atoms: exp(leaky(s_j + d_i)) is the greater of exp(s_j) exp(d_i) and the same with s and d times the slope.
Second, a sum of weighted W x_j is W times a sum of weighted x_j, so a layer sums its inputs where they are
narrower than its outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.dense import dense, padded_columns, padded_row, whole_registers
from phaseseg.compiled.simd import WIDTH
from phaseseg.families.segmentation import neighbor_sums
from phaseseg.families.segmentation.settings import ATTENTION_SLOPE, NetworkConfig, Scaling
from phaseseg.frame import Frame
from phaseseg.neighbors import Bins, sort_into_bins
from phaseseg.nn.model import check_weights

Floats = NDArray[np.float32]

# The exponential of minus this is far above the smallest float32, also after a multiplication with values.
LARGEST_SPREAD = 60.0
# Number of atoms whose hidden layers are in memory at a time.
CHUNK = 2048
SLOPE = np.float32(ATTENTION_SLOPE)
NOTHING = np.zeros((1, 4), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """Logits of an ensemble for a frame, and how far its features are from the training data.

    logits : (n_members, n_atoms, outputs) float32, atoms in the order of the frame
    n_outside : (F,) int64, number of atoms whose raw feature is outside the range of the training data
    lowest, highest : (F,) float32, extremes of the raw features; inf and -inf without atoms
    """

    logits: Floats
    n_outside: NDArray[np.int64]
    lowest: Floats
    highest: Floats


def node_features(frame: Frame, codes: NDArray[np.integer[Any]], config: NetworkConfig) -> Floats:
    """Raw features of every atom: (n_atoms, F) float32, in the order of the frame; see `NetworkConfig`.

    codes : (n_atoms,) index of each atom's species in `config.species`

    An atom without target neighbors gets the cutoff as their mean distance and a variance of 0; an atom
    without any neighbors gets the target fraction 0.
    """
    atoms = _Atoms.of(frame, codes, config, config.n_features)
    features = np.empty((frame.n_atoms, config.n_features), dtype=np.float32)
    neighbor_sums.unsort(atoms.features, np.zeros(config.n_features, np.float32), atoms.bins.order, features)
    return features


@dataclass(frozen=True, eq=False)
class _Atoms:
    """The atoms of a frame, common to all layers of all members; arrays by slot.

    features : (n_atoms + spare, width), raw at first; unused columns are zero
    degrees : (n_atoms,) int32 number of neighbors
    doubtful : (n_atoms,) bool, whether float32 cannot decide which neighbors are within the cutoff
    """

    bins: Bins
    features: Floats
    degrees: NDArray[np.int32]
    doubtful: NDArray[np.bool_]

    @classmethod
    def of(cls, frame: Frame, codes: NDArray[np.integer[Any]], config: NetworkConfig, width: int) -> _Atoms:
        n, n_species = frame.n_atoms, len(config.species)
        rows = borrow((n + neighbor_sums.SPARE_ROWS, width), np.float32)
        rows.fill(0)
        degrees, doubtful = borrow(n, np.int32), borrow(n, np.bool_)
        if config.features == "counts":
            # Kinds 1 and 2 are targets, kinds 2 and 3 counters: each is one stretch.
            roles = {(False, False): 0, (True, False): 1, (True, True): 2, (False, True): 3}
            kinds = np.array(
                [roles[name in config.target, name in config.counter] for name in config.species],
                dtype=np.int32,
            )
            bins = sort_into_bins(frame, config.cutoff, kinds[codes], 4)
            neighbor_sums.count_features(bins, n_species, config.cutoff, rows, degrees, doubtful)
        else:
            bins = sort_into_bins(frame, config.cutoff, codes, n_species)
            plan = _gaussians(config.widths, n_species)
            neighbor_sums.density_features(bins, *plan, rows, degrees, doubtful)
        rows[np.arange(n), codes[bins.order]] = 1
        return cls(bins, rows, degrees, doubtful)

    def chunks(self) -> Iterator[tuple[int, int, slice]]:
        """First and last bin (exclusive) of about `CHUNK` atoms at a time, and their slots."""
        starts = self.bins.start[:: self.bins.kinds]
        first = 0
        while first < len(starts) - 1:
            stop = int(np.searchsorted(starts, starts[first] + CHUNK, side="right")) - 1
            stop = min(max(stop, first + 1), len(starts) - 1)
            yield first, stop, slice(int(starts[first]), int(starts[stop]))
            first = stop


def _gaussians(
    widths: Sequence[float], n_species: int
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Arguments of `density_features`: from wide to narrow, with squares in place of exp where possible."""
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


# Layers -------------------------------------------------------------------------------------------


def _dense(
    x: Floats, inputs: int, weight: Floats, bias: Floats, out: Floats, n_rows: int, *,
    x_at: int = 0, out_at: int = 0, add: bool = False, rectify: bool = False,
) -> None:  # fmt: skip
    dense(x, x_at, inputs, weight, bias, out, out_at, n_rows, add, rectify)


@dataclass(frozen=True, eq=False)
class _Layer:
    """Weights of one layer, arranged for the kernels.

    inputs, heads, channels : as in `NetworkConfig.layer_shapes`
    last : whether this layer gives the outputs
    shared : whether the inputs are summed first and multiplied by the weights afterwards
    table : (inputs, columns) weights of what each atom needs before the sums: the scores s and d, twice; in
        the last layer also the outputs, from column 4 on
    weight : applied before the sums, or after them for each head (shared)
    own : for the atom itself (graphconv)
    bias : one for each head if shared
    """

    architecture: str
    inputs: int
    heads: int
    channels: int
    last: bool
    shared: bool
    table: Floats | None
    weight: tuple[Floats, ...]
    own: Floats | None
    bias: tuple[Floats, ...]

    @classmethod
    def of(
        cls, architecture: str, shape: tuple[int, int, int], first: bool, last: bool,
        weights: Mapping[str, NDArray[Any]],
    ) -> _Layer:  # fmt: skip
        """From the weights by name, without the prefix `layer1.`."""
        inputs, heads, channels = shape
        name = "weight_neighbors" if architecture == "graphconv" else "weight"
        weight = np.asarray(weights[name], dtype=np.float64)
        own = weights.get("weight_self")
        bias = np.asarray(weights["bias"], dtype=np.float64)
        # Attention behind the first layer has at least as many inputs as outputs of all heads.
        shared = architecture != "gat" or (
            first and heads * whole_registers(inputs) <= whole_registers(heads * channels)
        )
        table = np.zeros((4 + len(weight) if last else 4 * _padded(heads), inputs))
        if last:
            table[4:] = weight
        if architecture == "gat":
            of_heads = weight.reshape(heads, channels, inputs)
            for at, end in ((0, "source"), (_padded(heads), "target")):
                attention = np.asarray(weights[f"attention_{end}"], dtype=np.float64)
                scores = np.einsum("hc,hcf->hf", attention, of_heads)
                # Twice, because `neighbor_sums.attention_factors` makes two factors of each.
                for row in (at, at + 2 * _padded(heads)):
                    table[row : row + heads] = scores
        split = shared and not last
        return cls(
            architecture, inputs, heads, channels, last, shared,
            table=padded_columns(table) if last or architecture == "gat" else None,
            weight=tuple(padded_columns(part) for part in np.split(weight, heads if split else 1)),
            own=None if own is None else padded_columns(np.asarray(own)),
            bias=tuple(padded_row(part) for part in np.split(bias, heads if split else 1)),
        )  # fmt: skip

    @property
    def width(self) -> int:
        """Columns of the outputs in whole registers."""
        if self.shared and not self.last:
            return whole_registers((self.heads - 1) * self.channels + whole_registers(self.channels))
        return whole_registers(self.heads * self.channels)

    @property
    def sizes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Heads, channels and blocks of `weighted_rows`, as the lengths of tuples."""
        heads = 0 if self.architecture == "graphconv" else self.heads
        columns = self.inputs if self.shared else self.heads * self.channels
        return (
            (0,) * heads,
            () if self.shared else (0,) * self.channels,
            (0,) * (whole_registers(columns) // WIDTH),
        )

    @property
    def table_width(self) -> int:
        return 8 if self.last else 4 * _padded(self.heads)


def _padded(heads: int) -> int:
    """Heads rounded up to a power of two, as in `weighted_rows`."""
    return 1 << (heads - 1).bit_length()


def _pattern(layer: _Layer, top: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """The columns of `attention_factors`, repeated to whole registers; top : (heads,) largest s."""
    padded = _padded(layer.heads)
    pattern = np.zeros((4, layer.table_width), dtype=np.float32)
    shift, slopes, of_target, kept = pattern
    for part, slope in enumerate((1.0, 1.0, ATTENTION_SLOPE, ATTENTION_SLOPE)):
        columns = slice(part * padded, part * padded + layer.heads)
        shift[columns] = top if part % 2 else -top
        of_target[columns] = part % 2
        slopes[part * padded : (part + 1) * padded] = slope
    kept[4 * padded :] = 1
    repeats = max(WIDTH // layer.table_width, 1)
    a, b, c, d = np.tile(pattern, repeats)
    return a, b, c, d


class _Before:
    """What a layer needs from every atom before it can sum over neighbors; filled chunk by chunk.

    table : (n_atoms + spare, table_width) scores, later factors; in the last layer also the outputs
    rows : (n_atoms + spare, columns) what is summed; own : (n_atoms + spare, 4) for the last graphconv
    """

    def __init__(self, layer: _Layer, atoms: _Atoms, rows: Floats | None) -> None:
        self.layer, self.atoms = layer, atoms
        n = len(atoms.degrees) + neighbor_sums.SPARE_ROWS
        self.table: Floats = NOTHING
        if layer.table is not None:
            self.table = borrow((n, layer.table_width), np.float32)
        self.rows: Floats = NOTHING if rows is None else rows
        self.projected = rows is None and not layer.last
        if self.projected:
            self.rows = borrow((n, layer.width), np.float32)
        self.own: Floats = NOTHING
        if layer.last and layer.own is not None:
            self.own = borrow((n, 4), np.float32)

    def fill(self, x: Floats, at: int, n_rows: int) -> None:
        """Fill in the slots at ... at + n_rows - 1, whose inputs of the layer are `x`."""
        layer = self.layer
        if layer.table is not None:
            nothing = np.zeros(layer.table.shape[1], dtype=np.float32)
            _dense(x, layer.inputs, layer.table, nothing, self.table[at:], n_rows)
        if self.projected:
            nothing = np.zeros(layer.width, dtype=np.float32)
            _dense(x, layer.inputs, layer.weight[0], nothing, self.rows[at:], n_rows)
        if layer.last and layer.own is not None:
            _dense(x, layer.inputs, layer.own, layer.bias[0], self.own[at:], n_rows)

    def close(self) -> bool:
        """Turn scores into factors when all atoms are filled in; False if the scores differ too much."""
        layer, n = self.layer, len(self.atoms.degrees)
        if layer.architecture == "gat":
            low, top = neighbor_sums.extremes(self.table, n, layer.heads)
            if n and not (top - low).max() <= LARGEST_SPREAD:
                return False
            neighbor_sums.attention_factors(self.table, n, SLOPE, *_pattern(layer, top))
            return True
        ones: Any = 1
        if layer.architecture == "gcn":
            ones = 1 / np.sqrt(self.atoms.degrees + np.float32(1))
            if not layer.last:
                self.table = borrow((n, 4), np.float32)
                self.table[:, 2:] = 0
        if self.table is not NOTHING:
            self.table[:n, 0] = self.table[:n, 1] = ones
        return True

    def sums(self, first: int, stop: int, exact: bool, out: Floats) -> None:
        """Weighted sums over the neighbors of the atoms in some bins."""
        layer, atoms = self.layer, self.atoms
        if exact:
            channels = 0 if layer.shared else layer.channels
            neighbor_sums.exact_sums(
                atoms.bins, first, stop, atoms.doubtful, self.rows, self.table, _padded(layer.heads), SLOPE,
                layer.heads, channels, out,
            )  # fmt: skip
            return
        neighbor_sums.layer_sums(
            atoms.bins, first, stop, atoms.doubtful, self.rows, self.table,
            layer.architecture != "graphconv", layer.architecture == "gat", *layer.sizes, out,
        )  # fmt: skip

    def outputs(self, exact: bool) -> Floats:
        """(n_atoms, 4): the outputs of the last layer without the bias."""
        layer, atoms = self.layer, self.atoms
        out = borrow((len(atoms.degrees), 4), np.float32)
        if exact:
            values = np.ascontiguousarray(self.table[:, 4:])
            n_bins = (len(atoms.bins.start) - 1) // atoms.bins.kinds
            neighbor_sums.exact_sums(
                atoms.bins, 0, n_bins, atoms.doubtful, values, self.table, 1, SLOPE, 1, 0, out
            )
            return out
        attends, itself = layer.architecture == "gat", layer.architecture != "graphconv"
        neighbor_sums.narrow_sums(atoms.bins, atoms.doubtful, self.table, itself, attends, out)
        return out


# Network ------------------------------------------------------------------------------------------


class Network:
    """An ensemble of networks of one configuration, ready for frames.

    Parameters
    ----------
    config : NetworkConfig
    scaling : Scaling of the raw features, shared by the members
    members : weights of each member by name; see `NetworkConfig.weight_shapes`

    Raises
    ------
    ValueError
        A weight is missing, unknown, of another shape or not finite; there are no members.
    """

    def __init__(
        self, config: NetworkConfig, scaling: Scaling, members: Sequence[Mapping[str, NDArray[Any]]]
    ) -> None:
        self.config, self.scaling = config, scaling
        for name in ("center", "scale", "low", "high"):
            check_weights({name: (config.n_features,)}, [{name: getattr(scaling, name)}], "feature")
        check_weights(config.weight_shapes(), members)
        self._members = [_Member(config, weights) for weights in members]

    def __call__(self, frame: Frame, codes: NDArray[np.integer[Any]]) -> NetworkOutput:
        """Logits for every atom of a frame.

        codes : (n_atoms,) index of each atom's species in `config.species`

        Atoms without neighbors get logits, too: attention and "gcn" then use only the atom itself. Features
        are clipped to the range of the training data; the result counts the atoms outside.
        """
        codes = np.asarray(codes)
        if codes.shape != (frame.n_atoms,):
            raise ValueError(f"{frame.n_atoms} atoms have species codes of the shape {codes.shape}.")
        width = self.config.n_features
        atoms = _Atoms.of(frame, codes, self.config, whole_registers(width))
        outside = np.zeros(width, dtype=np.int64)
        lowest, highest = np.full(width, np.inf, np.float32), np.full(width, -np.inf, np.float32)
        scaling = self.scaling
        neighbor_sums.scale_features(
            atoms.features, frame.n_atoms, scaling.center, scaling.scale, scaling.low, scaling.high, outside,
            lowest, highest,
        )  # fmt: skip
        logits = np.empty((len(self._members), frame.n_atoms, self.config.outputs), dtype=np.float32)
        for member, out in zip(self._members, logits, strict=True):
            member(atoms, out)
        return NetworkOutput(logits, outside, lowest, highest)


class _Member:
    def __init__(self, config: NetworkConfig, weights: Mapping[str, NDArray[Any]]) -> None:
        self.layers = []
        shapes = config.layer_shapes
        for number, shape in enumerate(shapes, start=1):
            prefix = f"layer{number}."
            named = {key.removeprefix(prefix): w for key, w in weights.items() if key.startswith(prefix)}
            last = number == len(shapes) and not config.readout
            self.layers.append(_Layer.of(config.architecture, shape, number == 1, last, named))
        self.readout: list[tuple[int, Floats]] = []
        if config.readout:
            at = 0
            for width in (config.n_features, *(heads * channels for _, heads, channels in shapes)):
                part = np.asarray(weights["readout1.weight"])[:, at : at + width]
                self.readout.append((width, padded_columns(part)))
                at += width
            self.hidden_bias, self.hidden = padded_row(weights["readout1.bias"]), config.readout
            self.last, self.last_bias = padded_columns(weights["readout2.weight"]), weights["readout2.bias"]

    def __call__(self, atoms: _Atoms, out: Floats) -> None:
        """Fill `out`, (n_atoms, outputs) in the order of the frame."""
        n = len(atoms.degrees)
        chunks = list(atoms.chunks())
        most = max(slots.stop - slots.start for *_, slots in chunks) + neighbor_sums.SPARE_ROWS
        inputs = [atoms.features]  # of the layers that keep them
        before = _Before(self.layers[0], atoms, atoms.features if self.layers[0].shared else None)
        for *_, slots in chunks:
            before.fill(atoms.features[slots.start :], slots.start, slots.stop - slots.start)
        for number, layer in enumerate(self.layers, start=1):
            exact = not before.close()
            if layer.last:
                bias = np.zeros(4, np.float32) if layer.own is not None else layer.bias[0]
                rows = before.outputs(exact)
                if layer.own is not None:
                    # Columns beyond the outputs are uninitialized.
                    used = out.shape[1]
                    rows[:, :used] += before.own[:n, :used]
                neighbor_sums.unsort(rows, bias, atoms.bins.order, out)
                return
            after = self.layers[number] if number < len(self.layers) else None
            keep = after is not None and (bool(self.readout) or after.shared)
            hidden = borrow((n + neighbor_sums.SPARE_ROWS if keep else most, layer.width), np.float32)
            following = None
            if after is not None:
                following = _Before(after, atoms, hidden if after.shared else None)
            else:
                z = borrow((most, whole_registers(self.hidden)), np.float32)
                sums = np.empty((most, self.last.shape[1]), dtype=np.float32)
            columns = layer.heads * whole_registers(layer.inputs) if layer.shared else layer.width
            buffer = np.empty((most, columns), dtype=np.float32)
            for first, stop, slots in chunks:
                m = slots.stop - slots.start
                x = hidden[slots.start :] if keep else hidden
                self._hidden(layer, before, first, stop, slots, exact, buffer, x, inputs[-1])
                if following is not None:
                    following.fill(x, slots.start, m)
                    continue
                parts = [kept[slots.start :] for kept in inputs] + [x]
                for k, ((width, weight), part) in enumerate(zip(self.readout, parts, strict=True)):
                    final = k == len(parts) - 1
                    bias = self.hidden_bias if k == 0 else np.zeros_like(self.hidden_bias)
                    _dense(part, width, weight, bias, z, m, add=k > 0, rectify=final)
                _dense(z, self.hidden, self.last, np.zeros(sums.shape[1], np.float32), sums, m)
                neighbor_sums.unsort(sums, self.last_bias, atoms.bins.order[slots], out)
            if following is None:
                return
            before = following
            if keep:
                inputs.append(hidden)

    @staticmethod
    def _hidden(
        layer: _Layer, before: _Before, first: int, stop: int, slots: slice, exact: bool, buffer: Floats,
        x: Floats, inputs: Floats,
    ) -> None:  # fmt: skip
        """Outputs of a hidden layer for the atoms in some bins, into `x`."""
        m = slots.stop - slots.start
        if not layer.shared:
            before.sums(first, stop, exact, x)
            neighbor_sums.rectify(x, layer.bias[0], m)
            return
        before.sums(first, stop, exact, buffer)
        if layer.own is not None:
            _dense(inputs[slots.start :], layer.inputs, layer.own, np.zeros_like(layer.bias[0]), x, m)
        for head, (weight, bias) in enumerate(zip(layer.weight, layer.bias, strict=True)):
            _dense(
                buffer, layer.inputs, weight, bias, x, m, x_at=head * whole_registers(layer.inputs),
                out_at=head * layer.channels, add=layer.own is not None, rectify=True,
            )  # fmt: skip
