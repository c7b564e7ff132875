"""A frame whose atoms are on disk, in layers across the first vector of its reduced cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.jit import jit
from phaseseg.fields import Fields
from phaseseg.frame import FLAT, Category, Frame
from phaseseg.io.columns import MOST_NAMES
from phaseseg.io.pieces import Determined, PiecedFrame, PlacedPiece
from phaseseg.io.write import Pieces
from phaseseg.large.disk import Disk
from phaseseg.large.tasks import each
from phaseseg.specs import Progress

MOST_LAYERS = 256
PER_SLAB = 8_000_000
"""Atoms of a slab, by default; about 100 bytes each are in memory."""
ATOMS_PER_LAYER = 4096
"""Thinner layers would make short reads."""


def usual_slabs(n_atoms: int) -> int:
    """The number of slabs of a frame, by default."""
    return max(-(-n_atoms // PER_SLAB), 1)


class Ends:
    """The outermost atoms of each species along the vectors of the reduced cell, from a frame in pieces.

    low, high : (n_species, 3, 4) fraction along a vector and position of the atom with the least, or greatest
    near_low, near_high : (n_species, 3) ends in the images nearest to the first atom of the frame
    """

    def __init__(self, n_species: int, first: NDArray[np.float64] | None = None) -> None:
        self.low, self.high = np.full((n_species, 3, 4), np.inf), np.full((n_species, 3, 4), -np.inf)
        self.near_low, self.near_high = np.full((n_species, 3), np.inf), np.full((n_species, 3), -np.inf)
        self._first = None if first is None or not len(first) else first[0].copy()

    def add(self, frame: Frame) -> None:
        """Add the atoms of a piece."""
        if not len(frame):
            return
        inverse = np.linalg.inv(frame.reduced.cell)
        self._first = frame.positions[0].copy() if self._first is None else self._first
        _ends(
            frame.positions, frame.species, frame.origin, self._first, inverse, frame.pbc, self.low,
            self.high, self.near_low, self.near_high,
        )  # fmt: skip

    def join(self, other: Ends, codes: NDArray[np.int32]) -> None:
        """Add the ends of a later piece, whose species n is number codes[n] here."""
        n = min(len(codes), len(other.low))
        codes = codes[:n]
        for name, nearer in (("low", np.less), ("high", np.greater)):
            mine, theirs = getattr(self, name), getattr(other, name)[:n]
            further = nearer(theirs[:, :, 0], mine[codes, :, 0])
            mine[codes] = np.where(further[:, :, None], theirs, mine[codes])
        self.near_low[codes] = np.minimum(self.near_low[codes], other.near_low[:n])
        self.near_high[codes] = np.maximum(self.near_high[codes], other.near_high[:n])

    def renumbered(self, lookup: NDArray[np.int32]) -> Ends:
        """The ends with the species n as number lookup[n]."""
        found = Ends(len(lookup))
        for name in ("low", "high", "near_low", "near_high"):
            getattr(found, name)[lookup] = getattr(self, name)[: len(lookup)]
        return found

    def outermost(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(n, 3) positions of the outermost atoms of some species."""
        if not chosen.any():
            return np.empty((0, 3))
        low, high = self.low[chosen], self.high[chosen]
        first, last = low[:, :, 0].argmin(axis=0), high[:, :, 0].argmax(axis=0)
        return np.array(
            [t[k, axis, 1:] for t, at in ((low, first), (high, last)) for axis, k in enumerate(at)]
        )

    def range(self, axis: int) -> tuple[float, float]:
        """The least and the greatest fraction of all atoms along a vector."""
        return float(self.low[:, axis, 0].min()), float(self.high[:, axis, 0].max())

    def sizes(self, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(3,) extents in the images nearest to the first atom, and where the atoms are."""
        near = self.near_high[chosen].max(axis=0) - self.near_low[chosen].min(axis=0)
        there = self.high[chosen][:, :, 0].max(axis=0) - self.low[chosen][:, :, 0].min(axis=0)
        return near, there


@jit
def _ends(positions, species, origin, first, inverse, pbc, low, high, near_low, near_high):
    for atom in range(positions.shape[0]):
        s = species[atom]
        for axis in range(3):
            f, d = 0.0, 0.0
            for k in range(3):
                f += (positions[atom, k] - origin[k]) * inverse[k, axis]
                d += (positions[atom, k] - first[k]) * inverse[k, axis]
            if pbc[axis]:
                d -= np.rint(d)
            near_low[s, axis] = min(near_low[s, axis], d)
            near_high[s, axis] = max(near_high[s, axis], d)
            if f < low[s, axis, 0]:
                low[s, axis, 0] = f
                low[s, axis, 1:] = positions[atom]
            if f > high[s, axis, 0]:
                high[s, axis, 0] = f
                high[s, axis, 1:] = positions[atom]


EVERY = np.arange(128, dtype=np.int32)
"""Codes of species that are those of the frame."""


class _Piece(NamedTuple):
    """What a store keeps of a piece in memory.

    start : (n_layers + 1,) places of its layers behind its first atom; counts : (128,) atoms of each species
    keys : columns that it has; words : of its categories, in the order of their codes
    """

    start: NDArray[np.int64]
    counts: NDArray[np.int64]
    ends: Ends
    keys: list[Any]
    words: dict[str, tuple[str, ...]]


class _Columns:
    """The columns of a store while its frame is read; other machines call it with a row and a piece.

    head : the first piece, which has all columns that the frame can have
    """

    def __init__(self, n: int, head: Frame, disk: Disk) -> None:
        self.n_layers = int(np.clip(n // ATOMS_PER_LAYER, 1, MOST_LAYERS))
        self.rows, self.positions = disk.array(n, np.int32), disk.array((n, 3), np.float64)
        self.species, self._disk, self._first = disk.array(n, np.int8), disk, head.positions[:1]
        self.words: dict[str, dict[str, int]] = {}
        self.others: dict[Any, NDArray[Any]] = {
            key: disk.array((n, *values.shape[1:]), values.dtype)
            for key, values in _columns(head, self.words)
        }

    def __call__(self, item: tuple[int, PlacedPiece]) -> tuple[_Piece, Determined]:
        row, piece = item
        frame, determined = piece.read()
        return self.add(frame, row), determined

    def add(self, frame: Frame, row: int) -> _Piece:
        """Put a piece into the files."""
        start, order = _layers(frame, self.n_layers)
        put, keys = self._disk.put, []
        put(self.rows, row, row + order)
        positions = borrow(frame.positions.shape, np.float64)
        np.take(frame.positions, order, axis=0, out=positions, mode="clip")
        put(self.positions, row, positions)
        put(self.species, row, frame.species[order])
        for key, values in _columns(frame, self.words):
            if key in self.others:
                put(self.others[key], row, values)
                keys.append(key)
        words = {kind: tuple(table) for kind, table in self.words.items()}
        ends = Ends(len(frame.species_names), self._first)
        ends.add(frame)
        counts = np.zeros(len(EVERY), np.int64) + np.bincount(frame.species, minlength=len(EVERY))
        return _Piece(start, counts, ends, keys, words)

    def renumber(self, words: Mapping[str, tuple[str, ...]], rows: slice) -> None:
        """Give the words of a piece the codes that they have in the frame."""
        for kind, some in words.items():
            table = self.words.setdefault(kind, {})
            lookup = np.array([table.setdefault(word, len(table)) for word in some], dtype=np.int32)
            if ("categories", kind) in self.others and not np.array_equal(lookup, np.arange(len(lookup))):
                codes = self.others["categories", kind]
                codes[rows] = lookup[codes[rows]]


def _with_rows(pieces: Iterator[PlacedPiece], row: int) -> Iterator[tuple[int, PlacedPiece]]:
    for piece in pieces:
        yield row, piece
        row += len(piece)


class Outline(Frame):
    """A frame without its atoms in memory: the cell and the number of atoms of each species.

    `positions` are those of a few atoms that reach as far along the vectors of the reduced cell as all atoms.
    """

    counts: NDArray[np.int64]
    ends: Ends

    @classmethod
    def of(cls, frame: Frame, counts: NDArray[np.int64], ends: Ends) -> Self:
        """Make one from a frame with the same cell and names.

        counts : (n_species,) atoms of each species
        """
        parts = {name: getattr(frame, name) for name in frame.__dataclass_fields__}
        outer = ends.outermost(counts > 0)
        parts |= {"positions": outer, "species": np.zeros(len(outer), np.int32)}
        found = cls(**parts)
        object.__setattr__(found, "counts", counts)
        object.__setattr__(found, "ends", ends)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"counts": self.counts, "ends": self.ends}

    def of_species(self, chosen: NDArray[np.bool_]) -> Outline:
        """The outline of the atoms of some species, (n_species,) bool."""
        return Outline.of(self, np.where(chosen, self.counts, 0), self.ends)

    def __len__(self) -> int:
        return int(self.counts.sum())

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return int(self.counts.sum())

    @property
    def species_counts(self) -> NDArray[np.int64]:
        """(n_species,) number of atoms of each species."""
        return self.counts

    def is_flat(self, axis: int) -> bool:
        """As `Frame.is_flat`, of the reduced cell."""
        inverse, reduced = np.linalg.inv(self.reduced.cell), self.reduced.cell
        near, there = self.ends.sizes(self.counts > 0)
        lengths = np.linalg.norm(np.delete(reduced, axis, axis=0), axis=1)
        thickness = float(near[axis] / np.linalg.norm(inverse[:, axis]))
        if thickness > FLAT * lengths.max() and self.pbc.all():
            return False
        filled = np.delete(there, axis)
        lengths *= np.where(np.delete(self.pbc, axis), np.minimum(filled, 1), filled)
        spacing = max(float(np.sqrt(lengths.prod() / self.n_atoms)), float(lengths.max()) / self.n_atoms)
        return thickness <= FLAT * spacing


@dataclass(frozen=True, eq=False)
class InSlabs:
    """The result of a frame that was worked on in slabs.

    fields : its numbers and tables; columns : those of its atoms, in files
    rule : with which it was made
    """

    store: FrameStore
    fields: Fields
    columns: Mapping[str, NDArray[Any]]
    rule: Any

    def pieces(self) -> Pieces:
        """The frame with its columns, in the order of its atoms."""
        return Pieces(self.store.outline.n_atoms, self._pieces())

    def _pieces(self) -> Iterator[tuple[Frame, dict[str, Any]]]:
        return (self.piece(rows) for rows in self.store.rows)

    def piece(self, rows: slice) -> tuple[Frame, dict[str, Any]]:
        """A piece of the frame with its columns, and the numbers of the frame."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        return self.store.frame_of(rows), columns | self.fields.level("frame")


class Layers(NamedTuple):
    """Some atoms of a frame, in the order of the frame.

    rows : (n,) int64 rows in the frame; positions : (n, 3) float64, Å; species : (n,) int32
    """

    rows: NDArray[np.int64]
    positions: NDArray[np.float64]
    species: NDArray[np.int32]


@jit
def _layer_of(positions, origin, column, wrap, n_layers, layer):
    for atom in range(positions.shape[0]):
        f = 0.0
        for axis in range(3):
            f += (positions[atom, axis] - origin[axis]) * column[axis]
        if wrap:
            f -= np.floor(f)
        layer[atom] = min(max(int(np.floor(f * n_layers)), 0), n_layers - 1)


@jit
def _sort(layer, n_layers, start, order):
    """Stable order by layers; `start` is zero at first."""
    for atom in range(layer.size):
        start[layer[atom] + 1] += 1
    for k in range(n_layers):
        start[k + 1] += start[k]
    fill = start[:-1].copy()
    for atom in range(layer.size):
        order[fill[layer[atom]]] = atom
        fill[layer[atom]] += 1


@jit
def _gather(ranges, first, place, rows, positions, species, to_rows, to_positions, to_species, at):
    """Put the atoms of ranges of one piece in the order of their rows; returns how many were put before.

    ranges : (n, 2) places in the columns; first : first row of the piece; place : scratch space of its length
    """
    place[:] = 0
    for k in range(ranges.shape[0]):
        for slot in range(ranges[k, 0], ranges[k, 1]):
            place[rows[slot] - first] = slot + 1
    for row in range(place.size):
        if place[row] > 0:
            slot = place[row] - 1
            to_rows[at], to_species[at] = first + row, species[slot]
            for axis in range(3):
                to_positions[at, axis] = positions[slot, axis]
            at += 1
    return at


@dataclass(frozen=True, eq=False)
class Chosen:
    """Atoms of a frame on disk, by species or by further words.

    outline : of these atoms
    species : (n_species,) bool
    words : (n_atoms,) codes of the atoms, and which of them are meant, for every kind of words
    """

    outline: Outline
    species: NDArray[np.bool_]
    words: tuple[tuple[NDArray[np.int32], NDArray[np.bool_]], ...] = ()

    def among(self, rows: slice | NDArray[np.int64], species: NDArray[np.int32]) -> NDArray[np.bool_]:
        """(n,) bool: which of some atoms these are, from their rows in the frame and their species."""
        found = self.species[species]
        for codes, meant in self.words:
            found |= meant[codes[rows]]
        return found


@dataclass(eq=False)
class FrameStore:
    """The atoms of a frame on disk.

    outline : all but the atoms
    others : further columns of the atoms in the order of the file, by the attribute of a frame, or by
        ("categories" or "fields", name)
    disk : has the arrays
    piece : (n_pieces + 1,) first atom of every piece of the file, and the end
    """

    outline: Outline
    others: Mapping[Any, NDArray[Any]]
    piece: NDArray[np.int64]
    words: Mapping[str, tuple[str, ...]]
    disk: Disk
    _starts: NDArray[np.int64]  # (n_pieces, n_layers + 1), places of the layers of a piece in the columns
    _rows: NDArray[np.int32]
    _positions: NDArray[np.float64]
    _species: NDArray[np.int8]
    _chosen: dict[tuple[str, ...], Chosen] = field(default_factory=dict, init=False)

    @classmethod
    def read(cls, found: PiecedFrame, disk: Disk, progress: Progress | None = None) -> FrameStore:
        """Read a frame from its file once, and put its atoms into layers."""
        n, pieces, ends = found.n_atoms, iter(found.pieces), [0]
        head = next(pieces)
        columns = _Columns(n, head, disk)
        rows, species = columns.rows, columns.species
        starts, ends_of, counts = [], Ends(len(EVERY)), np.zeros(len(EVERY), dtype=np.int64)
        in_pieces: Counter[Any] = Counter()

        def add(part: _Piece, codes: NDArray[np.int32] = EVERY) -> None:
            here = slice(ends[-1], ends[-1] + int(part.start[-1]))
            starts.append(here.start + part.start)
            ends.append(here.stop)
            counts[codes] += part.counts[: len(codes)]
            ends_of.join(part.ends, codes)
            in_pieces.update(part.keys)
            if not np.array_equal(codes, np.arange(len(codes))):
                species[here] = codes[species[here]]
            columns.renumber(part.words, here)
            if progress is not None:
                progress(here.stop / max(n, 1), f"reading, {here.stop:,} of {n:,} atoms")

        add(columns.add(head, 0))
        elsewhere = None if disk.kept.tasks is None else found.elsewhere()
        if elsewhere is None:
            for frame in pieces:
                add(columns.add(frame, ends[-1]))
        elif n > len(head):
            for part, determined in each(
                disk, "piece", columns, _with_rows(elsewhere, ends[-1]), "reading", n=-(-n // len(head)) - 1
            ):
                add(part, found.add(determined))
        others, words, positions = columns.others, columns.words, columns.positions
        lookup, names = found.lookup()
        few = head.take([], fields={}, categories={}, molecules=None, ids=None).replace(species_names=names)
        final = np.zeros(len(names), dtype=np.int64)
        final[lookup] = counts[: len(names)]
        if not np.array_equal(lookup, np.arange(len(lookup))):
            for piece in pairwise(ends):
                species[slice(*piece)] = lookup[species[slice(*piece)]]
        # What a reader leaves out where it does not understand it, it leaves out of the whole frame.
        many = [("categories", kind) for kind, table in words.items() if len(table) > MOST_NAMES]
        others = {k: v for k, v in others.items() if in_pieces[k] == len(starts) and k not in many}
        kinds = [kind for kind in words if ("categories", kind) in others]
        return cls(
            Outline.of(few, final, ends_of.renumbered(lookup)), others, np.array(ends),
            {kind: tuple(words[kind]) for kind in kinds}, disk,
            np.array(starts).reshape(-1, columns.n_layers + 1), rows, positions, species,
        )  # fmt: skip

    @property
    def n_layers(self) -> int:
        return int(self._starts.shape[1]) - 1

    @property
    def filled(self) -> NDArray[np.int64]:
        """(n_layers,) atoms in every layer."""
        return np.asarray(np.diff(self._starts, axis=1).sum(axis=0))

    def choose(self, names: str | Sequence[str]) -> Chosen:
        """The atoms that are meant; ValueError as `Frame.species_mask`."""
        key = (names,) if isinstance(names, str) else tuple(names)
        if key not in self._chosen:
            self._chosen[key] = self._choose(key)
        return self._chosen[key]

    def _choose(self, names: Sequence[str]) -> Chosen:
        there = np.flatnonzero(self.outline.counts > 0).astype(np.int32)
        # A frame with every species and every word that there are.
        every = np.arange(max(len(there), *map(len, self.words.values()), 0), dtype=np.int32)
        head = self.outline
        few = Frame(
            np.zeros((len(every), 3)), head.cell, head.pbc, there[every % len(there)], head.species_names,
            categories={kind: Category(every % len(words), words) for kind, words in self.words.items()},
            source=head.source,
        )  # fmt: skip
        few.species_mask(names)  # says what is wrong with them
        meant = {"": np.zeros(len(head.species_names), dtype=bool)}
        for kind, code in few.codes_of(names):
            meant.setdefault(kind, np.zeros(len(self.words.get(kind, ())), dtype=bool))[code] = True
        species = meant.pop("")
        if not meant:
            return Chosen(head.of_species(species), species)
        words = tuple((self.others["categories", kind], mask) for kind, mask in meant.items())
        found = Chosen(head, species, words)
        counts, ends = np.zeros_like(head.counts), Ends(len(head.counts))
        for rows, frame in self.pieces():
            part = frame.take(found.among(rows, frame.species))
            counts += part.species_counts
            ends.add(part)
        return replace(found, outline=Outline.of(head, counts, ends))

    def edges(self, n_slabs: int) -> list[int]:
        """Edges of slabs of whole layers with about as many atoms each."""
        total = np.concatenate([[0], np.cumsum(self.filled)])
        targets = total[-1] * np.arange(1, n_slabs) / n_slabs
        return sorted({0, *np.searchsorted(total, targets).tolist(), self.n_layers})

    def layer_of(self, frame: Frame) -> NDArray[np.int32]:
        """(n_atoms,) layers of atoms of the frame."""
        return _layers_of(frame, self.n_layers)

    def load(self, layers: NDArray[np.integer[Any]]) -> Layers:
        """Atoms of some layers, (n,) numbers in order, at least one."""
        # Layers next to each other are one range.
        ends = np.flatnonzero(np.diff(layers) != 1)
        first, last = layers[np.append(0, ends + 1)], layers[np.append(ends, len(layers) - 1)] + 1
        ranges = np.stack([self._starts[:, first], self._starts[:, last]], axis=2)
        n = int(np.diff(ranges, axis=2).sum())
        rows, positions, species = borrow(n, np.int64), borrow((n, 3), np.float64), borrow(n, np.int32)
        place, at = np.empty(int(np.diff(self.piece).max(initial=0)), dtype=np.int64), 0
        for p, (begin, end) in enumerate(pairwise(self.piece.tolist())):
            at = _gather(
                ranges[p], begin, place[: end - begin], self._rows, self._positions, self._species, rows,
                positions, species, at,
            )  # fmt: skip
        return Layers(rows, positions, species)

    def places(self, first: int, stop: int) -> Iterator[NDArray[np.float64]]:
        """Positions of the atoms of some layers, in no particular order."""
        for begin, end in self._starts[:, [first, stop]].tolist():
            yield self._positions[begin:end]

    @property
    def rows(self) -> list[slice]:
        """Rows of the pieces of the file."""
        return [slice(*ends) for ends in pairwise(self.piece.tolist())]

    def species_of(self, piece: slice) -> NDArray[np.int32]:
        """(n,) int32, species of the atoms of a piece, in the order of the frame."""
        species = np.empty(piece.stop - piece.start, dtype=np.int32)
        species[self._rows[piece] - piece.start] = self._species[piece]
        return species

    def positions_of(self, piece: slice) -> NDArray[np.float64]:
        """(n, 3) float64, Å, positions of the atoms of a piece, in the order of the frame."""
        positions = np.empty((piece.stop - piece.start, 3))
        positions[self._rows[piece] - piece.start] = self._positions[piece]
        return positions

    def pieces(self) -> Iterator[tuple[slice, Frame]]:
        """The frame in the pieces of its file: rows, and a frame of their atoms."""
        return ((rows, self.frame_of(rows)) for rows in self.rows)

    def frame_of(self, piece: slice) -> Frame:
        """The atoms of a piece, in the order of the frame."""
        head = self.outline
        columns: dict[str, Any] = {"fields": {}, "categories": {}}
        for key, values in self.others.items():
            if isinstance(key, str):
                columns[key] = values[piece]
            elif key[0] == "fields":
                columns["fields"][key[1]] = values[piece]
            else:
                columns["categories"][key[1]] = Category(values[piece], self.words[key[1]])
        parts = {name: getattr(head, name) for name in head.__dataclass_fields__}
        here = {"positions": self.positions_of(piece), "species": self.species_of(piece)}
        return Frame(**parts | here | columns)


def _layers_of(frame: Frame, n_layers: int) -> NDArray[np.int32]:
    layer = np.empty(len(frame), dtype=np.int32)
    column = np.ascontiguousarray(np.linalg.inv(frame.reduced.cell)[:, 0])
    _layer_of(frame.positions, frame.origin, column, bool(frame.pbc[0]), n_layers, layer)
    return layer


def _layers(frame: Frame, n_layers: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    layer = _layers_of(frame, n_layers)
    start, order = np.zeros(n_layers + 1, dtype=np.int64), np.empty(len(frame), dtype=np.int32)
    _sort(layer, n_layers, start, order)
    return start, order


def _columns(frame: Frame, words: dict[str, dict[str, int]]) -> Iterable[tuple[Any, NDArray[Any]]]:
    """Further columns of a piece; the words of categories are numbered through all pieces."""
    for name in ("ids", "molecules"):
        if (values := getattr(frame, name)) is not None:
            yield name, values
    for name, values in frame.fields.items():
        yield ("fields", name), values
    for kind, category in frame.categories.items():
        table = words.setdefault(kind, {})
        lookup = np.array([table.setdefault(word, len(table)) for word in category.names], dtype=np.int32)
        yield ("categories", kind), lookup[category.codes]
