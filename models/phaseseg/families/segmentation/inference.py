"""Inference without torch: from a frame to logits in float32, in time linear in the atoms.

Sums over neighbors are computed bin by bin (`neighbor_sums`) without storing pairs, and the first layers of
several members share the search for neighbors. Two identities make the sums cheap. First, the attention
weight of a pair factorizes into numbers per atom: exp(leaky(s_j + d_i)) is the larger of exp(s_j) exp(d_i)
and the same product with s and d multiplied by the slope. Second, a weighted sum of W x_j is W times the
weighted sum of x_j, so a layer sums its inputs if they are narrower than its outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.dense import ROWS, dense, padded_columns, padded_row, whole_registers
from phaseseg.compiled.simd import HAS_AVX512, WIDTH
from phaseseg.compiled.threads import for_each, in_parts
from phaseseg.families.segmentation import neighbor_sums
from phaseseg.families.segmentation.node_features import Atoms, Floats, Range, blocks_of, rows_for
from phaseseg.families.segmentation.settings import ATTENTION_SLOPE, NetworkConfig, Scaling
from phaseseg.frame import Frame
from phaseseg.moved import moved_name
from phaseseg.nn.model import check_weights

# exp(-60) is well above the smallest float32, even after multiplication with values.
LARGEST_SPREAD = 60.0
# Members that share a sweep over the neighbors have at most this many registers of sums, and heads, together.
REGISTERS, MOST_HEADS = (16 if HAS_AVX512 else 4), 8
# Without attention, all members have the same sums; the outputs of this many are in memory at once.
MOST_MEMBERS = 4
SLOPE = np.float32(ATTENTION_SLOPE)
NOTHING = np.zeros((1, 4), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """Logits of an ensemble for a frame, and a comparison of its features with the training data.

    logits : (n_members, n_atoms, outputs) float32, atoms in frame order
    n_outside : (F,) int64, number of atoms whose raw feature is outside the range of the training data
    lowest, highest : (F,) float32, extremes of the raw features; inf and -inf without atoms
    """

    logits: Floats
    n_outside: NDArray[np.int64]
    lowest: Floats
    highest: Floats


# Layers -------------------------------------------------------------------------------------------


def _dense(
    x: Floats, inputs: int, weight: Floats, bias: Floats | None, out: Floats, n_rows: int, *,
    x_at: int = 0, out_at: int = 0, add: bool = False, rectify: bool = False,
) -> None:  # fmt: skip
    if bias is None:
        bias = np.zeros(weight.shape[1], dtype=np.float32)
    dense(x, x_at, inputs, weight, bias, out, out_at, n_rows, add, rectify)


class _Layer:
    """Weights of one layer, arranged for the kernels.

    inputs, heads, channels : as in `NetworkConfig.layer_shapes`
    last : True if this layer returns the outputs
    shared : True if the inputs are summed first and multiplied by the weights afterwards
    table : (inputs, columns) weights for the per-atom values needed before the sums: the scores s and d,
        twice; in the last layer also the outputs, starting at column 4; or None
    weight : applied before the sums, or after them for each head (shared)
    own : weights for the atom itself (graphconv), or None
    bias : one for each head if shared
    """

    def __init__(
        self, architecture: str, shape: tuple[int, int, int], first: bool, last: bool,
        weights: Mapping[str, NDArray[Any]],
    ) -> None:  # fmt: skip
        inputs, heads, channels = self.inputs, self.heads, self.channels = shape
        self.last, self.attends, self.itself = last, architecture == "gat", architecture != "graphconv"
        weight = np.asarray(weights["weight" if self.itself else "weight_neighbors"], dtype=np.float64)
        bias = np.asarray(weights["bias"], dtype=np.float64)
        # Attention layers after the first have at least as many inputs as outputs of all heads.
        self.shared = not self.attends or (
            first and heads * whole_registers(inputs) <= whole_registers(heads * channels)
        )
        self.padded = 1 << (heads - 1).bit_length()  # a power of two, as in `weighted_rows`
        self.table_width = 8 if last else 4 * self.padded
        table = np.zeros((4 + len(weight) if last else 4 * self.padded, inputs))
        if last:
            table[4:] = weight
        if self.attends:
            of_heads = weight.reshape(heads, channels, inputs)
            for at, end in ((0, "source"), (self.padded, "target")):
                attention = np.asarray(weights[f"attention_{end}"], dtype=np.float64)
                scores = np.einsum("hc,hcf->hf", attention, of_heads)
                # Twice, because `neighbor_sums.attention_factors` makes two factors of each.
                for row in (at, at + 2 * self.padded):
                    table[row : row + heads] = scores
        self.table = padded_columns(table) if last or self.attends else None
        parts = heads if self.shared and not last else 1
        self.weight = [padded_columns(part) for part in np.split(weight, parts)]
        self.bias = [padded_row(part) for part in np.split(bias, parts)]
        self.own = padded_columns(np.asarray(weights["weight_self"])) if not self.itself else None

    @property
    def width(self) -> int:
        """Number of output columns, padded to whole registers."""
        if self.shared and not self.last:
            return whole_registers((self.heads - 1) * self.channels + whole_registers(self.channels))
        return whole_registers(self.heads * self.channels)

    @property
    def sizes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Heads, channels and blocks for `weighted_rows`, encoded as lengths of tuples."""
        heads = self.heads if self.itself else 0
        channels = 0 if self.shared else self.channels
        columns = self.inputs if self.shared else self.heads * self.channels
        return (0,) * heads, (0,) * channels, (0,) * (whole_registers(columns) // WIDTH)

    def pattern(self, top: Floats) -> Floats:
        """Return the columns of `attention_factors`, tiled to whole registers; top : (heads,) largest s."""
        padded = self.padded
        pattern = np.zeros((4, self.table_width), dtype=np.float32)
        shift, slopes, of_target, kept = pattern
        for part, slope in enumerate((1.0, 1.0, ATTENTION_SLOPE, ATTENTION_SLOPE)):
            columns = slice(part * padded, part * padded + self.heads)
            shift[columns] = top if part % 2 else -top
            of_target[columns] = part % 2
            slopes[part * padded : (part + 1) * padded] = slope
        kept[4 * padded :] = 1
        return np.tile(pattern, max(WIDTH // self.table_width, 1))


def _layer_of(config: NetworkConfig, number: int, members: Sequence[Mapping[str, NDArray[Any]]]) -> _Layer:
    """A layer of some members as one; with several members it must be the first one.

    Its outputs are those of the members, one after the other: each has its own heads, or without attention,
    its own channels.
    """
    shapes = config.layer_shapes
    prefix = f"layer{number + 1}."
    names = [name for name in members[0] if name.startswith(prefix)]
    weights = {name.removeprefix(prefix): np.concatenate([w[name] for w in members]) for name in names}
    inputs, heads, channels = shapes[number]
    if config.architecture == "gat":
        heads *= len(members)
    else:
        channels *= len(members)
    last = number + 1 == len(shapes) and not config.readout
    return _Layer(config.architecture, (inputs, heads, channels), number == 0, last, weights)


class _Before:
    """Per-atom values that a layer needs before summing over neighbors; filled chunk by chunk.

    filled : atoms that have these values
    rows : (n_atoms + spare, columns) rows to sum: the inputs of a shared layer, or else their products
    table : (n_atoms + spare, table_width) scores, later factors; in the last layer also the outputs
    exact : True if the scores differ too much for factors
    """

    def __init__(self, layer: _Layer, atoms: Atoms, inputs: Floats, filled: Range) -> None:
        self.layer, self.atoms, self.filled = layer, atoms, filled
        n = len(atoms.degrees)
        self.table, self.rows, self.own = NOTHING, inputs if layer.shared else NOTHING, NOTHING
        self._products: list[tuple[Floats, Floats | None, Floats]] = []
        if layer.table is not None:
            self.table = rows_for(n, layer.table_width)
            self._products.append((layer.table, None, self.table))
        if not layer.shared and not layer.last:
            self.rows = rows_for(n, layer.width)
            self._products.append((layer.weight[0], None, self.rows))
        if layer.last and layer.own is not None:
            self.own = rows_for(n, 4)
            self._products.append((layer.own, layer.bias[0], self.own))

    def fill(self, x: Floats, slots: slice, at: int = 0) -> None:
        """Fill the given slots from their layer inputs, which begin in column `at` of `x`."""
        # The last rows are not made in place: what `dense` writes beyond them belongs to another chunk.
        m, inputs = slots.stop - slots.start, self.layer.inputs
        whole = max(m // ROWS - 1, 0) * ROWS
        for weight, bias, out in self._products:
            _dense(x, inputs, weight, bias, out, whole, x_at=at, out_at=slots.start * out.shape[1])
            made = rows_for(m - whole, out.shape[1])
            _dense(x[whole:], inputs, weight, bias, made, m - whole, x_at=at)
            out[slots.start + whole : slots.stop] = made[: m - whole]

    def close(self) -> None:
        """Convert scores to factors once all atoms are filled."""
        layer, slots = self.layer, self.filled.slots
        n, table = slots.stop - slots.start, self.table[slots.start :]
        if slots.start and self.table is not NOTHING:
            self.table[0] = 0  # padding among the candidates points at slot 0
        self.exact = False
        if layer.attends:
            ends = np.array(in_parts(neighbor_sums.extremes, n, table, layer.heads, least=8192))
            low, top = ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)
            self.exact = bool(n and not (top - low).max() <= LARGEST_SPREAD)
            if not self.exact:
                pattern = layer.pattern(top)
                groups = -(-n * layer.table_width // pattern.shape[1])
                in_parts(neighbor_sums.attention_factors, groups, table, SLOPE, *pattern)
            return
        ones: Any = 1
        if layer.itself:
            ones = 1 / np.sqrt(self.atoms.degrees[slots] + np.float32(1))
            if not layer.last:
                self.table = borrow((len(self.atoms.degrees), 4), np.float32)
                self.table[slots, 2:] = 0
        if self.table is not NOTHING:
            self.table[slots, 0] = self.table[slots, 1] = ones

    def _sums(self, first: int, stop: int, out: Floats) -> None:
        """Compute weighted sums over the neighbors of the atoms in a range of bins."""
        layer, atoms = self.layer, self.atoms
        which = first, stop, atoms.bins, atoms.doubtful, self.rows, self.table
        if self.exact:
            channels = 0 if layer.shared else layer.channels
            neighbor_sums.exact_sums(*which, layer.padded, SLOPE, layer.heads, channels, out)
        else:
            neighbor_sums.layer_sums(*which, layer.itself, layer.attends, *layer.sizes, out)

    def hidden(self, first: int, stop: int, slots: slice, inputs: Floats, x: Floats) -> None:
        """Write the outputs of a hidden layer for the atoms in a range of bins to `x`."""
        layer, m = self.layer, slots.stop - slots.start
        if not layer.shared:
            self._sums(first, stop, x)
            neighbor_sums.rectify(x, layer.bias[0], m)
            return
        wide = whole_registers(layer.inputs)
        sums = rows_for(m, layer.heads * wide)
        self._sums(first, stop, sums)
        adds = layer.own is not None
        if layer.own is not None:
            _dense(inputs[slots.start :], layer.inputs, layer.own, None, x, m)
        for head, (weight, bias) in enumerate(zip(layer.weight, layer.bias, strict=True)):
            _dense(
                sums, layer.inputs, weight, bias, x, m, x_at=head * wide, out_at=head * layer.channels,
                add=adds, rectify=True,
            )  # fmt: skip

    def outputs(self, wanted: Range, out: Floats) -> None:
        """Write the outputs of the last layer for some atoms to `out`, (n_atoms, outputs), in frame order."""
        layer, atoms, slots = self.layer, self.atoms, wanted.slots
        bins, doubtful, n = atoms.bins, atoms.doubtful, len(atoms.degrees)
        rows, used = borrow((n, 4), np.float32), out.shape[1]  # columns beyond the outputs are uninitialized
        if self.exact:
            values = np.ascontiguousarray(self.table[:, 4:])

            def exact(first: int, stop: int) -> None:
                base = int(bins.start[first * bins.kinds])
                out = rows[base:]
                neighbor_sums.exact_sums(first, stop, bins, doubtful, values, self.table, 1, SLOPE, 1, 0, out)

            wanted.each_bin(exact)
        else:
            args = bins, doubtful, self.table, layer.itself, layer.attends, rows
            wanted.each_bin(neighbor_sums.narrow_sums, *args)
        if layer.own is not None:
            rows[slots, :used] += self.own[slots, :used]
        bias = layer.bias[0] if layer.own is None else np.zeros(4, np.float32)
        n, first = slots.stop - slots.start, slots.start
        in_parts(neighbor_sums.unsort, n, rows[first:], bias, bins.order[first:], out, least=8192)


# Network ------------------------------------------------------------------------------------------


def _compared(atoms: Atoms, own: NDArray[np.bool_], ranges: tuple[Floats, ...]) -> list[Any]:
    """What `scale_features` returns for some of the slots, without scaling the features."""
    found = []
    for some in blocks_of(slice(0, len(own))):
        rows = atoms.features[some][own[some]]
        found.append(neighbor_sums.scale_features(0, len(rows), rows, *ranges))
    return found


class Network:
    """Ensemble of networks with the same configuration.

    Parameters
    ----------
    config : NetworkConfig
    scaling : Scaling of the raw features, shared by the members
    members : weights of each member by name; see `NetworkConfig.weight_shapes`

    Raises
    ------
    ValueError
        If a weight is missing, unknown, not finite or has the wrong shape, or if there are no members.
    """

    def __init__(
        self, config: NetworkConfig, scaling: Scaling, members: Sequence[Mapping[str, NDArray[Any]]]
    ) -> None:
        self.config, self.scaling = config, scaling
        for name in ("center", "scale", "low", "high"):
            check_weights({name: (config.n_features,)}, [{name: getattr(scaling, name)}], "feature")
        check_weights(config.weight_shapes(), members)
        self.n_members, at_once = len(members), _members_at_once(config)
        some = [slice(k, k + at_once) for k in range(0, len(members), at_once)]
        self._groups = [(which, _Group(config, members[which])) for which in some]

    def __call__(
        self, frame: Frame, codes: NDArray[np.integer[Any]], own: NDArray[np.bool_] | None = None
    ) -> NetworkOutput:
        """Return logits for every atom of a frame.

        codes : (n_atoms,) index of each atom's species in `config.species`
        own : (n_atoms,) bool, atoms whose logits are needed and whose features are compared with the training
            data; all by default. The logits of others are numbers without a meaning.

        For atoms without neighbors, "gat" and "gcn" use only the atom itself. Features are clipped to the
        range of the training data; the result counts the atoms outside.
        """
        codes = np.asarray(codes)
        if codes.shape != (frame.n_atoms,):
            raise ValueError(f"species codes for {frame.n_atoms} atoms have the shape {codes.shape}.")
        width = self.config.n_features
        if any(group.first.shared for _, group in self._groups):  # whole rows are summed
            width = whole_registers(width)
        atoms = Atoms.of(frame, codes, self.config, width, own)
        scaling, needed = self.scaling, atoms.ranges[-1].slots
        ranges = scaling.center, scaling.scale, scaling.low, scaling.high
        compared = [] if own is None else _compared(atoms, own[atoms.bins.order], ranges)
        found = in_parts(
            neighbor_sums.scale_features,
            needed.stop - needed.start,
            atoms.features[needed],
            *ranges,
            least=4096,
        )
        found = compared or found
        outside, lowest, highest = zip(*found, strict=True)
        logits = borrow((self.n_members, frame.n_atoms, self.config.outputs), np.float32)
        logits.fill(0)
        for part in atoms.parts():
            for which, group in self._groups:
                group(part, logits[which])
        return NetworkOutput(logits, np.sum(outside, axis=0), np.min(lowest, axis=0), np.max(highest, axis=0))


def _members_at_once(config: NetworkConfig) -> int:
    """The number of members whose first layers are computed in one sweep over the neighbors."""
    inputs, heads, channels = config.layer_shapes[0]
    wide = whole_registers(inputs)
    # What follows the first layer is in memory for all of them, so it must be narrow.
    if config.layers > (1 if config.readout else 2) or config.layers + bool(config.readout) < 2:
        return 1
    if config.architecture != "gat":
        return MOST_MEMBERS
    registers = min(heads * wide, whole_registers(heads * channels)) // WIDTH
    return max(min(REGISTERS // registers, MOST_HEADS // heads), 1)


class _Member:
    """The layers of a network after the first, and its readout."""

    def __init__(self, config: NetworkConfig, weights: Mapping[str, NDArray[Any]]) -> None:
        self.layers = [_layer_of(config, number, [weights]) for number in range(1, config.layers)]
        self.readout: list[tuple[int, Floats]] = []
        if config.readout:
            widths = [config.n_features, *(heads * channels for _, heads, channels in config.layer_shapes)]
            parts = np.split(np.asarray(weights["readout1.weight"]), np.cumsum(widths)[:-1], axis=1)
            self.readout = list(zip(widths, map(padded_columns, parts), strict=True))
            self.hidden_bias, self.hidden = padded_row(weights["readout1.bias"]), config.readout
            self.last, self.last_bias = padded_columns(weights["readout2.weight"]), weights["readout2.bias"]

    def read_out(self, parts: Sequence[tuple[Floats, int]], order: NDArray[np.int32], out: Floats) -> None:
        """Compute outputs of the atoms `order` from their features and the outputs of every layer.

        parts : each with the flat index at which it begins
        """
        m = len(order)
        z, sums = rows_for(m, whole_registers(self.hidden)), rows_for(m, self.last.shape[1])
        for k, ((width, weight), (part, at)) in enumerate(zip(self.readout, parts, strict=True)):
            bias, last = self.hidden_bias if k == 0 else None, k == len(parts) - 1
            _dense(part, width, weight, bias, z, m, x_at=at, add=k > 0, rectify=last)
        _dense(z, self.hidden, self.last, None, sums, m)
        neighbor_sums.unsort(0, m, sums, self.last_bias, order, out)


class _Pass:
    """What one member computes for a frame, layer by layer, after the first.

    out : (n_atoms, outputs), in frame order
    """

    def __init__(self, member: _Member, atoms: Atoms, out: Floats) -> None:
        self._member, self._atoms, self._out = member, atoms, out
        self._inputs = [atoms.features]  # of the layers that keep them
        self._layers = iter(member.layers)

    def expect(self, width: int, filled: Range) -> None:
        """Make room for the outputs of a layer, and for what the next one computes from them alone."""
        after, member = next(self._layers, None), self._member
        keep = after is not None and (bool(member.readout) or (after.shared and not after.last))
        kept = rows_for(len(self._atoms.degrees) if keep else 0, whole_registers(width))
        self._kept = kept if keep else None
        self.following = None if after is None else _Before(after, self._atoms, kept, filled)

    def take(self, x: Floats, at: int, slots: slice) -> None:
        """Use the outputs of a layer for a chunk of atoms; they begin in column `at`."""
        if self._kept is not None:
            self._kept[slots] = x[: slots.stop - slots.start, at : at + self._kept.shape[1]]
        if self.following is not None:
            self.following.fill(x, slots, at)
            return
        inputs = [(rows, slots.start * rows.shape[1]) for rows in self._inputs]
        self._member.read_out([*inputs, (x, at)], self._atoms.bins.order[slots], self._out)

    def finish(self, ranges: list[Range]) -> None:
        """All layers after the first; `ranges` as in `Atoms`, without those of the first."""
        while (before := self.following) is not None:
            wanted = ranges.pop()
            if self._kept is not None:
                self._inputs.append(self._kept)
            before.close()
            if before.layer.last:
                before.outputs(wanted, self._out)
                return
            self.expect(before.layer.heads * before.layer.channels, wanted)
            hidden = partial(_hidden, before, self._inputs[-1], before.layer.width, [(self, 0)])
            for_each(hidden, wanted.chunks)


def _hidden(
    before: _Before, inputs: Floats, width: int, takers: list[tuple[_Pass, int]],
    chunk: tuple[int, int, slice],
) -> None:  # fmt: skip
    """One hidden layer for a chunk of atoms, and what is computed from its outputs alone."""
    first, stop, slots = chunk
    x = rows_for(slots.stop - slots.start, width)
    before.hidden(first, stop, slots, inputs, x)
    for taker, at in takers:
        taker.take(x, at, slots)


class _Group:
    """Members of an ensemble whose first layers sum the same rows, so that one sweep serves them all."""

    def __init__(self, config: NetworkConfig, weights: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        self.first = _layer_of(config, 0, weights)
        self.members = [_Member(config, one) for one in weights]
        _, heads, channels = config.layer_shapes[0]
        self._width = heads * channels
        spare = whole_registers(self._width) - self._width
        self._row = whole_registers(max(self.first.width, len(weights) * self._width + spare))

    def __call__(self, atoms: Atoms, out: Floats) -> None:
        """Fill `out`, (n_members, n_atoms, outputs), in frame order."""
        *ranges, given = atoms.ranges
        before = _Before(self.first, atoms, atoms.features, given)
        for_each(lambda chunk: before.fill(atoms.features[chunk[2].start :], chunk[2]), given.chunks)
        before.close()
        wanted = ranges.pop()
        if self.first.last:
            before.outputs(wanted, out[0])
            return
        passes = [_Pass(member, atoms, rows) for member, rows in zip(self.members, out, strict=True)]
        for one in passes:
            one.expect(self._width, wanted)
        takers = [(one, k * self._width) for k, one in enumerate(passes)]
        for_each(partial(_hidden, before, atoms.features, self._row, takers), wanted.chunks)
        for one in passes:
            one.finish(list(ranges))


__getattr__ = partial(moved_name, "families.segmentation.inference", None)
