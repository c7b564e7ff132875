"""Frame: one configuration of atoms in a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.cell import reduced_cell
from phaseseg.display import Message, Summarized, Summary, listed, number, plural

FARTHEST = 1e9
"""Largest distance of an atom from the origin, in cells: farther out, wrapping rounds to 1e-7 of a cell."""
FARTHEST_LENGTH = 1e11
"""Largest distance of an atom from the origin, Å: farther out, coordinates round to 2e-5 Å."""
FLAT = 1e-3
"""Largest corrugation of a layer, in spacings of its atoms, that changes distances by less than 1e-6."""

SITE = "X"
"""Species of a site without mass: a virtual site, a lone pair, a dummy, a bead."""

Units = Literal["metal", "lj"]
Types = Sequence[str] | Mapping[int, str] | Mapping[str, str] | None
Names = Mapping[str, str] | Sequence[str] | None


class Category(NamedTuple):
    """One word per atom: codes (n_atoms,) int32 into `names`, as for species."""

    codes: NDArray[np.int32]
    names: tuple[str, ...]

    @classmethod
    def of(cls, words: ArrayLike) -> Category:
        """Make one from (n_atoms,) strings; the names are in order of first appearance.

        >>> Category.of(["OW", "HW1", "HW2", "OW"]).names
        ('OW', 'HW1', 'HW2')
        """
        code: dict[Any, int] = {}  # ten times faster than numpy.unique
        codes = [code.setdefault(word, len(code)) for word in np.asarray(words).tolist()]
        return cls(np.array(codes, dtype=np.int32), tuple(map(str, code)))

    def take(self, codes: ArrayLike) -> Category:
        """The words at these places: of distinct words, those of every atom."""
        return Category(self.codes[np.asarray(codes)], self.names)


@dataclass(frozen=True, eq=False, repr=False)
class Frame(Summarized):
    """One configuration: positions, cell and species of `n_atoms` atoms.

    Arrays are converted on construction and must not be changed afterwards; a frame made from
    contiguous float64 positions shares their memory.

    Parameters
    ----------
    positions : (n_atoms, 3) float64, Å
        Cartesian coordinates, wrapped into the cell or not.
    cell : (3, 3) float64, Å
        Cell vectors as rows; must span a volume.
    pbc : (3,) bool, or one bool for all axes
        Periodicity along each cell vector.
    species : (n_atoms,) integers or (n_atoms,) strings
        0-based codes into `species_names`. Strings are accepted when `species_names` is left out:
        the names are then the sorted distinct strings.
    species_names : names of the species codes, for example `("Fe", "Mg", "Si", "O", "N")`
    origin : (3,) float64, Å
        Corner of the cell.
    ids : (n_atoms,) int64, optional
        Identifiers from the file. Without them, messages use row number + 1.
    timestep : int, optional
        Number of MD steps, as in a LAMMPS dump.
    time : float, optional, ps
        Simulated time, if known.
    units : "metal" or "lj"
        "lj" means reduced units: read σ for Å everywhere.
    molecules : (n_atoms,) int64, optional
        Number of the molecule of each atom. Atoms with a number of 0 or less belong to no molecule.
    categories : mapping of further words per atom, by kind
        "name": atom names as in GRO and PDB files (`OW`), "residue": names of residues or molecules (`SOL`).
    fields : mapping of further per-atom columns that were in the file
    info : mapping of numbers of the whole frame that were in the file (temperature, energy, ...)
    words : mapping of its other entries that were in the file, as text (group, config_type, ...)
    source : where the frame came from, used in messages (`run.dump.gz, frame 3`)
    index : int, optional
        Number of the frame in its file, from 0.
    messages : what the reader had to guess or found odd, each with what to do about it
        Every analysis of the frame repeats them in `Fields.messages`.

    Raises
    ------
    ValueError
        For arrays of the wrong shape, a coordinate that is not finite or beyond 1e9 cells or 1e11 Å, a
        cell without volume or a species code without a name. The sentence names the source and the first
        offending atom.

    Examples
    --------
    >>> print(Frame(np.zeros((3, 3)), [3.0, 4.0, 5.0], True, ["Fe", "O", "O"], time=1.5, source="run.xyz"))
    Frame of 3 atoms, run.xyz
      species   1 Fe, 2 O
      cell      3 x 4 x 5 Å, periodic
      density   0.05 atoms per Å^3
      time      1.5 ps
    """

    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    species: NDArray[np.int32]
    species_names: tuple[str, ...] = ()
    origin: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    ids: NDArray[np.int64] | None = None
    molecules: NDArray[np.int64] | None = None
    categories: Mapping[str, Category] = field(default_factory=dict)
    timestep: int | None = None
    time: float | None = None
    units: Units = "metal"
    fields: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    info: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    index: int | None = None
    messages: tuple[Message, ...] = ()

    def __post_init__(self) -> None:
        prefix = self.error_prefix
        positions = np.ascontiguousarray(self.positions, dtype=np.float64)
        if positions.ndim != 2 or positions.shape[1] != 3:
            raise ValueError(f"{prefix}positions must have shape (n_atoms, 3), found {positions.shape}.")
        n_atoms = len(positions)
        cell = _cell(self.cell, prefix)
        origin = np.asarray(self.origin, dtype=np.float64)
        farthest = min(FARTHEST / np.abs(np.linalg.inv(cell)).sum(axis=0).max(), FARTHEST_LENGTH)
        if origin.shape != (3,) or not (np.abs(origin) <= farthest).all():
            raise ValueError(
                f"{prefix}origin must be three finite numbers, at most {farthest:.3g} from zero, "
                f"found {self.origin!r}."
            )
        integers: dict[str, NDArray[np.int64] | None] = {}
        for name in ("ids", "molecules"):
            given = getattr(self, name)
            integers[name] = None if given is None else np.ascontiguousarray(given, dtype=np.int64)
            if given is not None and np.shape(given) != (n_atoms,):
                raise ValueError(f"{prefix}{n_atoms} atoms have {len(given)} {name}.")
        for kind, (words, of_words) in self.categories.items():
            if np.shape(words) != (n_atoms,):
                raise ValueError(f"{prefix}{n_atoms} atoms have {len(words)} words of the kind {kind}.")
            if n_atoms and not 0 <= np.min(words) <= np.max(words) < len(of_words):
                raise ValueError(
                    f"{prefix}a code of the kind {kind} is not between 0 and {len(of_words) - 1}."
                )
        # Two extremes instead of a mask: both are NaN where a coordinate is.
        if n_atoms and not (-farthest <= positions.min() and positions.max() <= farthest):
            bad = int(np.flatnonzero(~(np.abs(positions) <= farthest).all(axis=1))[0])
            edges = " x ".join(f"{edge:.3g}" for edge in np.linalg.norm(cell, axis=1))
            wrong = f"too far from the cell to be placed accurately (its edges are {edges})."
            if not np.isfinite(positions).all():
                bad = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
                wrong = "but every coordinate must be a finite number."
            raise ValueError(
                f"{prefix}{self._atom(bad)} has the coordinates {positions[bad].tolist()}, {wrong} "
                "Remove or repair that atom."
            )
        codes, names = _species(self.species, self.species_names, prefix)
        if codes.shape != (n_atoms,):
            raise ValueError(f"{prefix}{n_atoms} atoms have {len(codes)} species codes.")
        if n_atoms and (codes.min() < 0 or codes.max() >= len(names)):
            bad = int(np.flatnonzero((codes < 0) | (codes >= len(names)))[0])
            raise ValueError(
                f"{prefix}{self._atom(bad)} has the species code {codes[bad]}, "
                f"but only 0 to {len(names) - 1} have names ({', '.join(names)})."
            )
        pbc = np.broadcast_to(np.asarray(self.pbc, dtype=bool), (3,)).copy()
        converted = {"positions": positions, "cell": cell, "pbc": pbc, "origin": origin, **integers}
        for name, value in {**converted, "species": codes, "species_names": names}.items():
            object.__setattr__(self, name, value)

    def _atom(self, row: int) -> str:
        return f"atom {row + 1}" if self.ids is None else f"atom {row + 1} (id {self.ids[row]})"

    def __getstate__(self) -> dict[str, Any]:
        # Without what is cached: a copy for a worker is no larger, and looking at a frame does not change it.
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.positions)

    @property
    def species_counts(self) -> NDArray[np.int64]:
        """(n_species,) number of atoms of each species."""
        return np.bincount(self.species, minlength=len(self.species_names))

    @property
    def volume(self) -> float:
        """Volume of the cell, Å^3."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def reduced(self) -> Frame:
        """The same atoms in an equivalent cell with short vectors, on which no analysis may depend.

        See `phaseseg.cell.reduced_cell`; the frame itself if its cell is reduced already.
        """
        # A frame that held itself would keep its memory until the garbage is collected.
        return self if self._reduction[0] is self.cell else self._reduced

    @cached_property
    def _reduced(self) -> Frame:
        frame = copy(self)  # there is nothing to check again
        object.__setattr__(frame, "cell", self._reduction[0])
        return frame

    @property
    def axes(self) -> NDArray[np.int64]:
        """(3, 3): vector i of the reduced cell is `axes[i] @ cell`, along periodic axes."""
        return self._reduction[1]

    @cached_property
    def _reduction(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        return reduced_cell(self.cell, self.pbc)

    @property
    def n_dimensions(self) -> int:
        """2 where three or more atoms lie in one plane across the third cell vector, else 3; see `is_flat`.

        The third vector of the reduced cell must be perpendicular to the two others. In two dimensions,
        neighbors are searched only in the plane, even if the file declares the third axis periodic.
        """
        a, b, c = self.reduced.cell
        tilted = max(abs(a @ c), abs(b @ c)) > 1e-9 * self.volume ** (2 / 3)
        return 3 if self.n_atoms < 3 or tilted or not self.reduced.is_flat(2) else 2

    def is_flat(self, axis: int) -> bool:
        """Whether all atoms lie in one plane along the two other cell vectors.

        The plane may be corrugated by 1e-3 of the mean spacing of its atoms, for example by the rounding of
        a file: this changes distances by less than 1e-6. Periodic images of the plane count as the plane.
        """
        inverse = np.linalg.inv(self.cell)

        def extent(axis: int, *, wrap: bool, first: int | None = None) -> float:
            apart = (self.positions[:first] - self.positions[0]) @ inverse[:, axis]
            if wrap and self.pbc[axis]:
                apart -= np.rint(apart)
            return float(np.ptp(apart))

        per_height = float(np.linalg.norm(inverse[:, axis]))
        lengths = np.linalg.norm(np.delete(self.cell, axis, axis=0), axis=1)
        most = FLAT * lengths.max() * per_height
        # The first atoms mostly settle it.
        if self.pbc.all() and (extent(axis, wrap=True, first=100) > most or extent(axis, wrap=True) > most):
            return False
        thickness = extent(axis, wrap=True) / per_height
        filled = [extent(other, wrap=False) for other in range(3) if other != axis]
        lengths *= np.where(np.delete(self.pbc, axis), np.minimum(filled, 1), filled)
        spacing = max(float(np.sqrt(lengths.prod() / self.n_atoms)), float(lengths.max()) / self.n_atoms)
        return thickness <= FLAT * spacing

    @property
    def error_prefix(self) -> str:
        """Prefix of messages about this frame: its source and a colon, or an empty string."""
        return error_prefix(self.source)

    @property
    def length_unit(self) -> str:
        """The unit of lengths in messages about this frame: Å, or σ in reduced units."""
        return length_unit(self.units)

    def species_mask(self, names: str | Sequence[str]) -> NDArray[np.bool_]:
        """Return (n_atoms,) bool: whether each atom is one of those named.

        names : species, or words of a category with its kind: `"O"`, `"name:OW"`, `"residue:SOL"`

        Raises
        ------
        ValueError
            If a name is not in the frame, or no atom has one of them.
        """
        mask = np.zeros(self.n_atoms, dtype=bool)
        for kind, code in self.codes_of(names):
            mask |= (self.categories[kind].codes if kind else self.species) == code
        if not mask.any():
            here = _present(Category(self.species, self.species_names))
            wanted = names if isinstance(names, str) else ", ".join(names)
            raise ValueError(
                f"{self.error_prefix}no atom is of species {wanted}; the species here are {here}."
            )
        return mask

    def codes_of(self, names: str | Sequence[str]) -> list[tuple[str, int]]:
        """Return the kind of category, or "" for species, and the code of each name; as `species_mask`."""
        found = []
        for name in (names,) if isinstance(names, str) else names:
            kind, _, word = name.rpartition(":") if name not in self.species_names else ("", "", name)
            category = self.categories.get(kind) if kind else Category(self.species, self.species_names)
            if category is None:
                there = ", ".join(self.categories) or "none"
                raise ValueError(
                    f"{self.error_prefix}{name!r} asks for the {kind} of the atoms; the frame has {there}."
                )
            if word not in category.names:
                what = f"{kind or 'species'} named {word!r}; the {kind + 's' if kind else 'species'} here are"
                meant = [f"{other}:{word}" for other, c in self.categories.items() if word in c.names]
                hint = f" Did you mean {' or '.join(meant)}?" if meant else ""
                raise ValueError(f"{self.error_prefix}no {what} {_present(category)}.{hint}")
            found.append((kind, category.names.index(word)))
        return found

    def take(self, atoms: ArrayLike, **changes: Any) -> Frame:
        """Return a frame of some of the atoms, in the order given; atoms may repeat.

        atoms : integers or (n_atoms,) bool
        changes : further attributes to change, as in `replace`
        """
        rows = np.asarray(atoms)
        rows = rows if rows.size else rows.astype(np.intp)  # an empty list makes an array of floats
        per_atom = {name: getattr(self, name) for name in ("positions", "species", "ids", "molecules")}
        parts: dict[str, Any] = {
            name: None if v is None else v[rows] for name, v in per_atom.items() if name not in changes
        }
        parts["categories"] = {kind: Category(c.codes[rows], c.names) for kind, c in self.categories.items()}
        parts["fields"] = {name: values[rows] for name, values in self.fields.items()}
        return replace(self, **parts | changes)

    def replace(self, **changes: Any) -> Frame:
        """Return a copy with some attributes changed."""
        return replace(self, **changes)

    def _molecules(self) -> str:
        assert self.molecules is not None
        number = len(np.unique(self.molecules[self.molecules > 0]))
        residues = self.categories.get("residue")
        return f"{number:,}" + (f" ({listed(list(residues.names))})" if residues else "")

    def _summary(self) -> Summary:
        length = self.length_unit
        counts = np.bincount(self.species, minlength=len(self.species_names)).tolist()
        edges = np.linalg.norm(self.cell, axis=1)
        cosines = (self.cell @ self.cell.T / np.outer(edges, edges))[[1, 0, 0], [2, 2, 1]]
        angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
        tilted = np.abs(cosines).max() > 1e-6
        turned = f" ({', '.join(f'{angle:.4g}°' for angle in angles)})" if tilted else ""
        axes = [axis for axis, periodic in zip("abc", self.pbc, strict=True) if periodic]
        ends = {0: "open", 3: "periodic"}.get(len(axes), f"periodic along {' and '.join(axes)}")
        present = [f"{n:,} {name}" for n, name in zip(counts, self.species_names, strict=True) if n]
        rows = {
            "species": listed(present),
            "cell": f"{' x '.join(map(number, edges))} {length}{turned}, {ends}",
            "density": f"{self.n_atoms / self.volume:.4g} atoms per {length}^3",
            "time": "" if self.time is None else f"{number(self.time)} {'τ' if self.units == 'lj' else 'ps'}",
            "timestep": "" if self.timestep is None else f"{self.timestep:,}",
            "molecules": "" if self.molecules is None else self._molecules(),
            "fields": listed(list(self.fields)),
            "info": listed([f"{name} {number(value)}" for name, value in self.info.items()]),
        }
        title = f"Frame of {plural(self.n_atoms, 'atom')}" + (f", {self.source}" if self.source else "")
        return title, [(name, text) for name, text in rows.items() if text], self.messages


def _present(category: Category) -> str:
    return ", ".join(category.names[code] for code in np.unique(category.codes)) or "none"


def length_unit(units: str) -> str:
    """The unit of lengths in messages: Å, or σ in reduced units."""
    return "σ" if units == "lj" else "Å"


def error_prefix(source: str) -> str:
    """The beginning of a message about something from a source."""
    return f"{source}: " if source else ""


def _cell(cell: ArrayLike, prefix: str) -> NDArray[np.float64]:
    matrix = np.array(cell, dtype=np.float64)
    if matrix.shape == (3,):
        matrix = np.diag(matrix)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise ValueError(
            f"{prefix}cell must be three finite vectors (rows), found {np.asarray(cell).tolist()}."
        )
    lengths = np.linalg.norm(matrix, axis=1)
    # Relative test: the volume of a cell of very small or very large units is still a volume.
    if not lengths.all() or abs(np.linalg.det(matrix / lengths[:, None])) < 1e-9:
        raise ValueError(
            f"{prefix}the cell is missing or has no volume: its vectors are {matrix.tolist()}. "
            "Give three vectors that are not in one plane."
        )
    return matrix


def _species(
    species: ArrayLike, names: Sequence[str], prefix: str
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    codes = np.asarray(species)
    if codes.dtype.kind in "US":
        text = codes.astype(str)
        if not names:
            distinct, inverse = np.unique(text, return_inverse=True)
            return inverse.astype(np.int32), tuple(str(name) for name in distinct)
        table = {name: code for code, name in enumerate(names)}
        if unknown := sorted(set(text.tolist()) - set(table)):
            raise ValueError(
                f"{prefix}species {', '.join(unknown)} are not among the names {', '.join(names)}."
            )
        return np.array([table[name] for name in text.tolist()], dtype=np.int32), tuple(names)
    if not names and codes.size:
        raise ValueError(f"{prefix}integer species need species_names, for example ('Fe', 'O').")
    if len(set(names)) != len(names):
        raise ValueError(f"{prefix}species_names must be distinct, found {', '.join(names)}.")
    return np.ascontiguousarray(codes, dtype=np.int32), tuple(str(name) for name in names)
