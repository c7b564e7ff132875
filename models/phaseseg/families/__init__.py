"""Families of models, and the contract by which every face knows them.

A family is one folder. Its `__init__` declares a `Family`: what it gives (fields), what may be asked of it
(options), how it is trained (settings), and where its code is ("module:name", loaded when it is called).
`predict`, `fit`, `evaluate`, the command line, OVITO, ASE, the documentation and the conformance suite read
the declaration and know nothing else of a family. Nothing here imports NumPy or PyTorch.

Families are found as folders of this package, by the entry-point group `phaseseg.families` of installed
packages, and by `register` in scripts and tests.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from phaseseg.specs import CHECKPOINT_FOLDERS, FieldSpec, Progress as Progress, register_fields

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from phaseseg.checkpoint import Checkpoint
    from phaseseg.fields import Fields, Table
    from phaseseg.frame import Frame
    from phaseseg.report import TextTable

DEFAULT = "segmentation"
"""The family whose default checkpoint serves `predict(frame)` where no model is named."""

# ------------------------------------------------------------------------------------ declaration


@dataclass(frozen=True)
class Option:
    """One thing that may be asked of a family: the same in Python, on the command line and in OVITO.

    name : keyword in Python and trait in OVITO
    type : bool, int, float, str, tuple for names that are separated by commas in a text, or `Path` for
        trajectories, which a face reads as it reads its input and hands over as runs
    default : None where the checkpoint or the frame decides
    help : one line
    part : "run" if the networks must run again when it changes, "read" if their output is only read anew,
        "evaluate" for options of `evaluate` alone
    choices : the texts that are allowed, if not all are
    low, high : bounds of a number; `open` leaves the bounds themselves out
    label, group : text and group in OVITO; an option without a label is not shown there
    placeholder : what OVITO shows in an empty text field
    flag : on the command line, `--name` if left out; None for an option that is not there
    multiple : whether the flag may be repeated
    """

    name: str
    type: type
    default: Any
    help: str
    part: Literal["run", "read", "evaluate"] = "read"
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    open: bool = False
    label: str = ""
    group: str = ""
    placeholder: str = ""
    flag: str | None = ""
    multiple: bool = False

    @property
    def cli(self) -> str | None:
        """The flag on the command line."""
        return f"--{self.name.replace('_', '-')}" if self.flag == "" else self.flag


@dataclass(frozen=True)
class BondFile:
    """Bonds that `phaseseg predict` writes as a table, a row each: `--OPTION FILE.csv`.

    option : name of the flag, and of the bool option of the family that asks for these bonds
    field : of level "bond"
    columns : of the bonds, as they are written
    help : one line
    """

    option: str
    field: str
    columns: tuple[str, ...]
    help: str


@dataclass(frozen=True)
class Analysis:
    """An analysis without a network, as `annotate` and `PhaseCalculator` offer it.

    keyword : the argument that asks for it
    make : "module:name" of a function `make(value, **options)` that gives a function of a frame; `value` is
        None where the analysis is the default and the keyword is left out
    default : whether this is what is done where nothing is asked for
    takes_options : whether the options are keywords of `annotate`, or all in the value
    """

    keyword: str
    make: str
    default: bool = False
    takes_options: bool = True


@dataclass(frozen=True)
class Family:
    """The declaration of a family of models.

    Parameters
    ----------
    name : as in the names of its checkpoints, `name/...`
    title : a heading
    status : "experimental", "stable" or "deprecated"
    units : those of the frames that its networks take, "metal" or "lj"
    default : name of the checkpoint that serves where none is asked for; "" for none
    fields : every field that it gives; a name that another family uses with another meaning is refused
    options : of `predict` and `evaluate`
    settings : dataclass of the network and its training, with a default for each; its fields are the flags of
        `phaseseg train`, a table of the documentation and a part of the card
    symmetries : what the conformance suite tests: "translation", "wrapping", "permutation", "repetition",
        "rotation"; a model with fewer has an attribute of this name
    model : "module:name" of a class; called with a `Checkpoint` it gives a `Model`
    fit : "module:name" of a function that trains and gives a `Checkpoint`; "" for none
    evaluate : "module:name" of a function `evaluate(runs, model, **options)` that gives an `Evaluation`, with
        `runs` the frames of each file by its name; "" for none
    summary : "module:name" of a class that puts the results of many frames together
        (`phaseseg.summary.Summary`); "" for a table with a row a frame
    report : "module:name" of a function that says in sentences what a card has of the training; "" for none
    check : "module:name" of a function `check(frame, fields)` that asserts what holds for its fields beyond
        levels, shapes and types; `phaseseg.testing.check_fields` calls it
    invariant : fields that the symmetries leave as they are but for rounding; if left out, all scalars and
        probabilities of atoms
    bond_files : bonds that can be written as tables
    analyses : analyses without a network
    commands : words of the command line that only this family has, "word=module:name" of a Typer function
    graph : "module:name" of a class or function that, called with a model, gives how its networks read a
        graph, for `phaseseg.pyg`, or None: `build()` gives a network, `arrays(frame)` its inputs by name with
        the lists `indptr` and `source`, in which each edge has its reverse; `forward(network, data, edges,
        sizes)` what it gives, a tensor or a named tuple of tensors; "" for none
    demo : "module:name" of a function `demo(folder)` that analyzes bundled files for `phaseseg demo`; "" for
        none
    readers : "module:name" of functions that read foreign checkpoints: `reader(path)` gives a
        `Checkpoint`, or None for a path that is none of theirs
    folder : holds its bundled checkpoints; of a family in this package its own folder `checkpoints`
    """

    name: str
    title: str
    status: Literal["experimental", "stable", "deprecated"]
    units: tuple[str, ...]
    model: str
    fields: tuple[FieldSpec, ...]
    default: str = ""
    options: tuple[Option, ...] = ()
    settings: type | None = None
    symmetries: frozenset[str] = frozenset({"translation", "wrapping", "permutation"})
    fit: str = ""
    evaluate: str = ""
    summary: str = ""
    report: str = ""
    check: str = ""
    invariant: tuple[str, ...] = ()
    bond_files: tuple[BondFile, ...] = ()
    analyses: tuple[Analysis, ...] = ()
    commands: tuple[str, ...] = ()
    graph: str = ""
    demo: str = ""
    readers: tuple[str, ...] = ()
    folder: Path | None = field(default=None, compare=False)

    def options_of(self, *parts: str) -> tuple[Option, ...]:
        """Its options of these parts: "run", "read", "evaluate"."""
        return tuple(option for option in self.options if option.part in parts)


# --------------------------------------------------------------------------------------- contract


@dataclass(frozen=True, eq=False)
class Part:
    """The output of a slab of a frame, for `Model.merge`.

    output : what `run` gave for the slab with its halo
    own : (n_slab,) bool; atoms of the slab itself, without those of the halo
    atoms : (n_slab,) int64; their rows in the whole frame
    """

    output: Any
    own: NDArray[np.bool_]
    atoms: NDArray[np.int64]


class Model(Protocol):
    """A checkpoint that is ready to be used on frames. `nn.model.NetworkModel` has most of it.

    A model needs `checkpoint`, `rule`, `run` and `fields`. One without `halo` and `merge` takes whole frames.

    checkpoint : Checkpoint
    halo : how far the answer for an atom sees, in the length unit of the frame; infinity where only whole
        frames will do
    """

    checkpoint: Checkpoint

    @property
    def halo(self) -> float: ...

    def rule(self, **options: Any) -> Any:
        """The options, parsed and checked once, with `to_dict()`; None is the default.

        Raises
        ------
        TypeError
            For an option that the family does not have.
        ValueError
            For a value out of range.
        """

    def run(self, frame: Frame, rule: Any, *, device: str = "auto", progress: Progress | None = None) -> Any:
        """The expensive half: what the networks say of a frame. A face may keep the output.

        It depends on the options of the part "run" alone. It may take minutes: it calls `progress`, which
        may raise to end it.
        """

    def fields(self, frame: Frame, output: Any, rule: Any) -> Fields:
        """The cheap half: the fields that follow from an output of this frame."""

    def merge(self, frame: Frame, parts: Sequence[Part]) -> Any:
        """The output of a frame from those of slabs that cover it; only with a finite halo."""


@runtime_checkable
class Fitted(Protocol):
    """A model that learns from all frames of a data set before it is used on each of them.

    fitted : whether it has done so; `api.prepare` sees to it
    """

    fitted: bool

    def fit_frames(self, frames: Iterable[Frame], rule: Any, *, progress: Progress | None = None) -> Model:
        """A model that has seen the frames, whose `fitted` is True."""


class Evaluation(Protocol):
    """A comparison of predictions with a reference."""

    messages: Iterable[str]

    def __len__(self) -> int:
        """Number of frames."""

    def tables(self) -> Mapping[str, Table]: ...

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `--json` prints them."""

    def shown(self, name: str) -> Iterable[TextTable | str]:
        """What is printed on a terminal of the evaluation of the file or files `name`."""

    def write(self, folder: Path, about: Mapping[str, Any]) -> Path:
        """Write page, figures, tables and numbers into a folder; gives the page."""


# --------------------------------------------------------------------------------------- registry

_registered: dict[str, Family] = {}
_searched = False


def register(family: Family) -> Family:
    """Make a family known to every face, with its fields; the family is given back.

    Raises
    ------
    ValueError
        If a family or a field of that name is there already, and is another.
    """
    if _registered.get(family.name, family) != family:
        raise ValueError(f"there is a family {family.name!r} already; give yours another name.")
    register_fields(*family.fields)
    if family.folder is not None:
        CHECKPOINT_FOLDERS[family.name] = family.folder
    _registered[family.name] = family
    return family


class _Families(Mapping[str, Family]):
    """The families by name; those of folders and entry points are looked for at the first question."""

    def _all(self) -> dict[str, Family]:
        global _searched
        if not _searched:
            _searched = True
            for entry in pkgutil.iter_modules(__path__):
                if entry.ispkg:
                    import_module(f"{__name__}.{entry.name}")
            from importlib.metadata import entry_points

            for point in entry_points(group="phaseseg.families"):
                register(point.load())
        return _registered

    def __getitem__(self, name: str) -> Family:
        if name not in self._all():
            raise KeyError(name)
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._all(), key=lambda name: (name != DEFAULT, name)))

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"FAMILIES({', '.join(self)})"


FAMILIES: Mapping[str, Family] = _Families()


def family_named(name: str) -> Family:
    """The family of a name; ValueError for an unknown one, with those that there are."""
    if name not in FAMILIES:
        raise ValueError(f"there is no model family {name!r}; there are {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def load(reference: str) -> Any:
    """What a "module:name" of a declaration stands for; the module is imported."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
