"""Data sets for force fields: configurations with energies, forces and groups, read and written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.environments.rules import check_units
from phaseseg.frame import Frame
from phaseseg.io import FrameText, InputError, atomic_output, frame_texts, read_frames
from phaseseg.io.copies import text_of
from phaseseg.io.packing import WRITTEN, bare_name, packed_file
from phaseseg.io.series import files_of
from phaseseg.io.write import entry, extxyz_lines
from phaseseg.specs import Progress

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Descriptor = Callable[[Frame], Doubles]
Mapped = Callable[[Descriptor, Sequence[Frame]], Iterable[Doubles]]

ENERGY_KEYS = (
    "ref_energy", "dft_energy", "energy", "free_energy", "total_energy", "potential_energy", "toten", "etot",
)  # fmt: skip
"""Names of the total energy, in order of preference; case does not matter. A named method comes first."""
FORCE_KEYS = ("ref_forces", "ref_force", "dft_forces", "dft_force", "forces", "force")
"""Names of the forces; the columns `DUMP_FORCES` are the last choice."""
ENERGY_WORDS, FORCE_WORDS = frozenset({"e", "energy", "etot", "toten"}), frozenset({"f", "force", "forces"})
"""A key with one of these words in it, such as `energy_corrected`, is used if it is the only one."""
OTHER_WORDS = frozenset((
    "above", "atom", "atomization", "band", "binding", "charge", "cohesive", "cutoff", "delta", "error",
    "fermi", "field", "formation", "gap", "hull", "interaction", "kinetic", "max", "mean", "min", "norm",
    "per", "pred", "predicted", "residual", "scale", "shift", "std", "surface", "thermal", "var", "weight",
    "weights", "zpe",
))  # fmt: skip
"""A key with one of these words is neither the energy of a configuration nor the forces."""
GROUP_KEYS = ("group", "config_type", "groups", "configuration_type")
"""Names of the group of a configuration."""
DUMP_FORCES = ("fx", "fy", "fz")
THREE_COLUMNS = "fx, fy, fz"


@dataclass(frozen=True)
class Place:
    """Where a configuration stands: a file and the number of the frame."""

    path: Path
    index: int


@dataclass(frozen=True, eq=False)
class DataSet:
    """Configurations of a data set, with what is known of them.

    Parameters
    ----------
    frames : one for each configuration
    energies : (n_configurations,) eV, of the whole configuration, or None
    forces : (n_atoms, 3) eV/Å, configuration by configuration, or None
    groups : (n_configurations,) names, or None
    names : of the configurations, for messages: "ta.xyz.gz frame 12"
    keys : what gave "energy", "forces" and "group" in the files
    places : where the configurations stand in files; empty for a set that was made in Python
    reading : options of `phaseseg.io.read_frames` that the files were read with

    Raises
    ------
    ValueError
        For a set without configurations, frames in reduced units, and arrays that do not fit the frames.

    >>> frame = Frame(np.zeros((1, 3)), np.eye(3) * 3, True, ["Fe"])
    >>> made = DataSet([frame, frame], np.array([-8.0, -8.1]))
    >>> made.starts.tolist(), made.species
    ([0, 1, 2], ('Fe',))
    """

    frames: Sequence[Frame]
    energies: Doubles | None = None
    forces: Doubles | None = None
    groups: NDArray[np.str_] | None = None
    names: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    places: tuple[Place, ...] = ()
    reading: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.frames)
        if not n:
            raise ValueError("the data set has no configurations.")
        if not self.names:
            object.__setattr__(
                self, "names", tuple(f.source or f"configuration {k}" for k, f in enumerate(self.frames))
            )
        for name, frame in zip(self.names, self.frames, strict=False):
            check_units(frame.units, f"{name}: ")
        for name in ("energies", "forces"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, np.ascontiguousarray(given, dtype=np.float64))
        shapes = {"energies": (n,), "forces": (self.n_atoms, 3), "groups": (n,), "names": (n,)}
        for name, shape in shapes.items():
            given = getattr(self, name)
            if given is not None and np.shape(given) != shape:
                raise ValueError(
                    f"{name} of {n} configurations with {self.n_atoms} atoms must have the shape {shape}, "
                    f"found {np.shape(given)}."
                )

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def n_atoms(self) -> int:
        return sum(frame.n_atoms for frame in self.frames)

    @property
    def sizes(self) -> Integers:
        """(n_configurations,) numbers of atoms."""
        return np.array([frame.n_atoms for frame in self.frames], dtype=np.int64)

    @property
    def starts(self) -> Integers:
        """(n_configurations + 1,) first atom of each configuration, and the number of atoms."""
        return np.concatenate([[0], np.cumsum(self.sizes)])

    @property
    def configurations(self) -> Integers:
        """(n_atoms,) number of the configuration of each atom."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @property
    def species(self) -> tuple[str, ...]:
        """Species that atoms of the set have, by name."""
        used = {frame.species_names[code] for frame in self.frames for code in np.unique(frame.species)}
        return tuple(sorted(used))

    def features(
        self, descriptor: Descriptor, progress: Progress | None = None, mapped: Mapped | None = None
    ) -> Doubles:
        """Return (n_atoms, n_features) descriptors, configuration by configuration.

        descriptor : function of a frame that returns (n_atoms, n_features), such as `PowerSpectrum`
        mapped : applies it to all frames, in order, as `map` does; it may use other processes
        progress : called with the fraction that is done and a line of text

        Raises
        ------
        ValueError
            If a configuration has another number of features than the first, or the descriptor refuses it.
        """
        found: list[Doubles] = []
        described = (mapped or map)(descriptor, self.frames)
        for k, (frame, of_frame) in enumerate(zip(self.frames, described, strict=True)):
            rows = np.asarray(of_frame, dtype=np.float64)
            expected = (frame.n_atoms, found[0].shape[1] if found else rows.shape[-1])
            if rows.shape != expected:
                raise ValueError(
                    f"{self.names[k]}: the descriptor has the shape {rows.shape}, and {expected} was "
                    "expected. Use one descriptor with one cutoff for the whole set."
                )
            found.append(rows)
            if progress is not None and (k % 16 == 15 or k + 1 == len(self)):
                progress((k + 1) / len(self), f"descriptors of {k + 1:,} of {len(self):,} configurations")
        return np.concatenate(found)

    def subset(self, configurations: ArrayLike) -> DataSet:
        """Return some of the configurations: their numbers in any order, or a mask (n_configurations,).

        Raises
        ------
        ValueError
            For a mask of another length or a number out of range.
        """
        given = np.asarray(configurations)
        if given.dtype == bool and given.shape != (len(self),):
            raise ValueError(f"a mask of {given.shape} was given for {len(self)} configurations.")
        chosen = np.flatnonzero(given) if given.dtype == bool else given.astype(np.int64).ravel()
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < len(self):
            raise ValueError(f"configurations have the numbers 0 to {len(self) - 1}, found {chosen.max()}.")
        starts = self.starts
        atoms = [np.arange(starts[k], starts[k + 1]) for k in chosen]
        numbers = chosen.tolist()
        return DataSet(
            [self.frames[k] for k in numbers],
            None if self.energies is None else self.energies[chosen],
            None if self.forces is None else self.forces[np.concatenate([np.zeros(0, np.int64), *atoms])],
            None if self.groups is None else self.groups[chosen],
            tuple(self.names[k] for k in numbers), self.keys,
            tuple(self.places[k] for k in numbers) if self.places else (), self.reading,
        )  # fmt: skip


# Reading -------------------------------------------------------------------------------------------


def read_data_set(
    *paths: str | os.PathLike[str], energy: str | None = None, forces: str | None = None,
    group: str | None = None, columns: bool = False, progress: Progress | None = None, **reading: Any,
) -> DataSet:  # fmt: skip
    """Read the configurations of one or more files, with energies, forces and groups where they are given.

    Extended XYZ, ASE databases (.db, .json), LAMMPS dumps and everything else that `phaseseg.io.read_frames`
    reads. Configurations without a cell, such as clusters, get an open box.

    Parameters
    ----------
    paths : files; one with wildcards stands for several
    energy, forces, group : names of the key or column; None guesses among `ENERGY_KEYS`, `FORCE_KEYS` and
        `GROUP_KEYS`, and "" leaves it out. `DataSet.keys` says which were used. Several files without a
        group become one group each.
    columns : whether the frames keep the other numeric columns of their atoms
    progress : called with the fraction that is done and a line of text
    reading : further options of `phaseseg.io.read_frames`: types, names, frames, cell, file_format

    Raises
    ------
    InputError
        For a file that cannot be read, a configuration without atoms, a key that is missing from some of
        the configurations, or an energy or force that is no finite number.
    """
    if not paths:
        raise ValueError("a data set needs at least one file.")
    files = [file for path in paths for file in files_of(path)]
    same_name = {file.name for file in files if sum(file.name == other.name for other in files) > 1}
    options = {"cell": "open", **reading}
    frames: list[Frame] = []
    places: list[Place] = []
    names: list[str] = []
    ends = [0]
    for n, path in enumerate(files):
        label = str(path) if path.name in same_name else path.name
        for frame in read_frames(path, fields=True, **options):
            if not frame.n_atoms:
                raise InputError(
                    f"{label}, frame {frame.index}: the configuration has no atoms. Leave it out."
                )
            frames.append(frame)
            places.append(Place(path, int(frame.index or 0)))
            names.append(f"{label} frame {frame.index}")
            if progress is not None and len(frames) % 64 == 0:
                progress(n / len(files), f"read {len(frames):,} configurations")
        ends.append(len(frames))
    if not frames:
        raise InputError(f"{files[0].name}: no configuration was read. Check the choice of frames.")
    parts = [
        _Part(names[a:b], frames[a:b], path.name) for path, (a, b) in zip(files, pairwise(ends), strict=True)
    ]
    parts = [part for part in parts if part.frames]
    energies, energy_key = _gathered(parts, _ENERGY, energy)
    found, forces_key = _gathered(parts, _FORCES, forces)
    groups, group_key = _groups(parts, group)
    keys = {"energy": energy_key, "forces": forces_key, "group": group_key}
    return DataSet(
        frames if columns else [frame.replace(fields={}) for frame in frames],
        None if energies is None else np.array(energies),
        None if found is None else np.concatenate(found),
        groups, tuple(names), {name: key for name, key in keys.items() if key}, tuple(places), options,
    )  # fmt: skip


@dataclass(frozen=True)
class _Part:
    """The configurations of one file."""

    names: Sequence[str]
    frames: Sequence[Frame]
    file: str


def _energy(frame: Frame, key: str, where: str) -> float | None:
    if key in frame.info:
        return frame.info[key]
    if key in frame.words:
        raise InputError(
            f"{where}: the energy {key} is {frame.words[key]!r}, not a finite number. Repair it."
        )
    return None


def _forces(frame: Frame, key: str, where: str) -> Doubles | None:
    if key == THREE_COLUMNS:
        if not all(name in frame.fields for name in DUMP_FORCES):
            return None
        values = np.stack([frame.fields[name] for name in DUMP_FORCES], axis=1)
    elif key in frame.fields:
        values = np.asarray(frame.fields[key], dtype=np.float64)
    else:
        return None
    if values.shape != (frame.n_atoms, 3):
        raise InputError(
            f"{where}: the forces {key} have the shape {values.shape}, not ({frame.n_atoms}, 3). "
            "Name another column."
        )
    if not np.isfinite(values).all():
        atom = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise InputError(
            f"{where}: the force on atom {atom + 1} is not finite. Repair or remove the configuration."
        )
    return values


def _group(frame: Frame, key: str, where: str) -> str | None:
    if key in frame.words:
        return frame.words[key]
    return f"{frame.info[key]:g}" if key in frame.info else None


@dataclass(frozen=True)
class _Kind:
    """Something that a configuration may have: its usual keys, where they are, and how it is read."""

    what: str
    usual: tuple[str, ...]
    words: frozenset[str]
    there: Callable[[Frame], list[str]]
    fits: Callable[[Frame, str], bool]
    get: Callable[[Frame, str, str], Any]


def _entries(frame: Frame) -> list[str]:
    return [*frame.info, *frame.words]


def _columns(frame: Frame) -> list[str]:
    all_three = all(name in frame.fields for name in DUMP_FORCES)
    return [*frame.fields, *([THREE_COLUMNS] if all_three else [])]


def _is_number(frame: Frame, key: str) -> bool:
    return key in frame.info


def _is_vectors(frame: Frame, key: str) -> bool:
    return key in frame.fields and frame.fields[key].shape == (frame.n_atoms, 3)


_ENERGY = _Kind("energy", ENERGY_KEYS, ENERGY_WORDS, _entries, _is_number, _energy)
_FORCES = _Kind("forces", (*FORCE_KEYS, THREE_COLUMNS), FORCE_WORDS, _columns, _is_vectors, _forces)
_GROUP = _Kind("group", GROUP_KEYS, frozenset(), _entries, _is_number, _group)


def _gathered(parts: Sequence[_Part], kind: _Kind, key: str | None) -> tuple[list[Any] | None, str]:
    """What was asked for of every configuration, and where it came from; None if no file has it."""
    if key == "":
        return None, ""
    chosen = [key if key is not None else _guessed(part, kind) for part in parts]
    if not any(chosen):
        return None, ""
    found = []
    for part, one in zip(parts, chosen, strict=True):
        for frame, name in zip(part.frames, part.names, strict=True):
            value = kind.get(frame, one, name) if one else None
            if value is None:
                with_it = next(k for k, other in enumerate(chosen) if other)
                there = f"{parts[with_it].names[0]} has it under {chosen[with_it]}"
                if key is not None:
                    there = f"it has {', '.join(kind.there(frame)) or 'nothing of the kind'}"
                raise InputError(
                    f"{name}: the configuration has no {' '.join([kind.what, one]).strip()}; {there}. Give "
                    f"it to every configuration, name another key, or read the set without {kind.what}."
                )
            found.append(value)
    return found, _said(parts, chosen)


def _guessed(part: _Part, kind: _Kind) -> str:
    """The usual key that most configurations of a file have, the first of equal ones.

    Without one, the only key that is likely by its words, if all configurations have it; or "".
    """
    counts: dict[str, int] = {}
    likely: dict[str, int] = {}
    for frame in part.frames:
        there = {key.lower(): key for key in kind.there(frame)}
        for key in kind.usual:
            if key in there:
                counts[there[key]] = counts.get(there[key], 0) + 1
        for key in there.values():
            if _is_likely(key, kind.words) and kind.fits(frame, key):
                likely[key] = likely.get(key, 0) + 1
    if not counts:
        key, n = next(iter(likely.items()), ("", 0))
        return key if len(likely) == 1 and n == len(part.frames) else ""
    return max(counts, key=lambda key: (counts[key], -kind.usual.index(key.lower())))


def _is_likely(key: str, words: frozenset[str]) -> bool:
    """Whether a key has one of the words in it, and none that says that it is something else.

    >>> _is_likely("dftEnergy", ENERGY_WORDS), _is_likely("energy_per_atom", ENERGY_WORDS)
    (True, False)
    """
    parts = {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", key)}
    return bool(parts & words) and not parts & OTHER_WORDS


def _said(parts: Sequence[_Part], chosen: Sequence[str]) -> str:
    distinct = dict.fromkeys(chosen)
    if len(distinct) == 1:
        return next(iter(distinct))
    return ", ".join(f"{key} ({part.file})" for part, key in zip(parts, chosen, strict=True))


def _groups(parts: Sequence[_Part], key: str | None) -> tuple[NDArray[np.str_] | None, str]:
    if key == "":
        return None, ""
    chosen = [key if key is not None else _guessed(part, _GROUP) for part in parts]
    if not any(chosen):
        if len(parts) == 1:
            return None, ""
        return np.array([part.file for part in parts for _ in part.frames]), "the file"
    found = [
        _group(frame, one, name) if one else part.file
        for part, one in zip(parts, chosen, strict=True)
        for frame, name in zip(part.frames, part.names, strict=True)
    ]
    if key is not None and not any(found):
        raise InputError(f"{parts[0].names[0]}: no configuration has the group {key!r}. Name another key.")
    return np.array([name or "none" for name in found]), _said(parts, [one or "the file" for one in chosen])


# Writing -------------------------------------------------------------------------------------------


def write_data_set(
    path: str | os.PathLike[str], data: DataSet, configurations: ArrayLike | None = None, *,
    entries: Mapping[str, ArrayLike] | None = None, columns: Mapping[str, ArrayLike] | None = None,
    progress: Progress | None = None,
) -> int:  # fmt: skip
    """Write configurations as extended XYZ, with everything that was in their files.

    Configurations of extended XYZ files are copied with every digit, in the order of the files.

    Parameters
    ----------
    path : .xyz or .extxyz, with .gz or .zst to compress
    configurations : numbers or mask of those to write; all by default
    entries : (n_configurations,) numbers or words to add to the comment lines, by name
    columns : (n_atoms,) numbers to add to the atoms, by name
    progress : called with the fraction that is done and a line of text

    Returns
    -------
    int
        Number of configurations written.

    Raises
    ------
    ValueError
        For another suffix, no configurations, or arrays that do not fit the set.
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    if Path(bare_name(path.name, WRITTEN)).suffix.lower() not in (".xyz", ".extxyz"):
        raise ValueError(
            f"{path.name}: a data set is written as .xyz or .extxyz, with .gz or .zst to compress."
        )
    given = np.arange(len(data)) if configurations is None else np.asarray(configurations)
    chosen = np.flatnonzero(given) if given.dtype == bool else np.unique(given.astype(np.int64))
    if not len(chosen):
        raise ValueError(f"{path.name}: there are no configurations to write.")
    of_frames = {name: _of_length(one, len(data), name) for name, one in (entries or {}).items()}
    of_atoms = {name: _of_length(one, data.n_atoms, name) for name, one in (columns or {}).items()}
    starts = data.starts
    with atomic_output(path) as temporary, packed_file(temporary) as file:
        for n, (k, text) in enumerate(_texts(data, chosen)):
            own = {name: values[k].item() for name, values in of_frames.items()}
            here = {name: values[starts[k] : starts[k + 1]] for name, values in of_atoms.items()}
            file.write(text.extended(own, here).encode())
            if progress is not None and (n % 64 == 63 or n + 1 == len(chosen)):
                progress((n + 1) / len(chosen), f"wrote {n + 1:,} of {len(chosen):,} configurations")
    return len(chosen)


def _of_length(values: ArrayLike, n: int, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape != (n,):
        raise ValueError(f"{name} must have {n} values, found an array of shape {array.shape}.")
    return array


def _texts(data: DataSet, chosen: Integers) -> Iterator[tuple[int, FrameText]]:
    """The numbers and texts of configurations, each file read once."""
    if not data.places:
        for k in chosen.tolist():
            yield k, _made(data, k)
        return
    at = 0
    while at < len(chosen):
        path, here = data.places[chosen[at]].path, dict[int, list[int]]()
        while at < len(chosen) and data.places[chosen[at]].path == path:
            here.setdefault(data.places[chosen[at]].index, []).append(int(chosen[at]))
            at += 1
        for text in frame_texts(path, here, **data.reading):
            for k in here[text.index]:
                yield k, text


def _made(data: DataSet, k: int) -> FrameText:
    """A configuration of a set that was made in Python."""
    frame, first = data.frames[k], int(data.starts[k])
    fields = dict(frame.fields)
    if data.forces is not None:
        fields["forces"] = data.forces[first : first + frame.n_atoms]
    text = text_of(k, "\n".join(extxyz_lines(frame.replace(fields=fields))))
    added: dict[str, Any] = dict(frame.words)
    if data.energies is not None:
        added["energy"] = repr(float(data.energies[k]))
    if data.groups is not None:
        added["group"] = str(data.groups[k])
    comment = " ".join([text.comment, *(entry(name, value) for name, value in added.items())])
    return replace(text, comment=comment)
