"""Families of models, and the contract between families and faces.

A family is one folder. Its `__init__` declares a `Family`: its results (fields), its options, its training
settings and the location of its code ("module:name", imported on first use). `predict`, `fit`, `evaluate`,
the command line, OVITO, ASE, the documentation and the conformance suite use only this declaration. Nothing
here imports NumPy or PyTorch.

Families are folders of this package, entry points of installed packages in the group `phaseseg.families`, or
registered by scripts and tests with `register`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
"""The family whose default checkpoint `predict(frame)` uses if no model is given."""

# ------------------------------------------------------------------------------------ declaration


@dataclass(frozen=True)
class Option:
    """One option of a family, the same in Python, on the command line and in OVITO.

    name : keyword in Python and trait in OVITO
    type : bool, int, float, str; tuple for comma-separated names; `Path` for trajectories, which the face
        reads like its input and passes on as runs
    default : None if the checkpoint or the frame determines it
    help : one line
    part : "run" if a change requires running the networks again, "read" if their output can be reused,
        "evaluate" for options of `evaluate` only
    choices : allowed texts; empty if any text is allowed
    low, high : bounds of a number, excluded if `open`
    label, group : text and group in OVITO, which hides options without a label
    placeholder : shown by OVITO in an empty text field
    flag : on the command line, `--name` if left out; None for no flag
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
        """Flag on the command line; None for an option without one."""
        return f"--{self.name.replace('_', '-')}" if self.flag == "" else self.flag


def species_named(option: str, given: str | Sequence[str]) -> tuple[str, ...]:
    """The species that an option names; ValueError if it names none."""
    names = (given,) if isinstance(given, str) else tuple(given)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{option} must name one species or several, found {given!r}.")
    return names


@dataclass(frozen=True)
class BondFile:
    """Bonds that `phaseseg predict` writes as a table with one row per bond: `--OPTION FILE.csv`.

    option : name of the flag, and of the bool option of the family that requests these bonds
    field : name of the field, of level "bond"
    columns : columns of the bonds in the order written
    help : one line
    """

    option: str
    field: str
    columns: tuple[str, ...]
    help: str


@dataclass(frozen=True)
class Analysis:
    """An analysis without a network, offered by `annotate` and `PhaseCalculator`.

    keyword : argument that requests it
    make : "module:name" of a function `make(value, **options)` that returns a function of a frame; `value` is
        None if the analysis runs by default, without its keyword
    default : whether this analysis runs if none is requested
    takes_options : True if the options are keywords of `annotate`, False if the value contains them
    """

    keyword: str
    make: str
    default: bool = False
    takes_options: bool = True


@dataclass(frozen=True)
class Paper:
    """A publication on which a checkpoint rests; `phaseseg cite` prints it.

    key : in BibTeX
    authors : "Given Family", in the order of the paper
    journal : of an article, or title of the proceedings if `kind` is "inproceedings"
    pages : "first-last", or the number of the article
    """

    key: str
    authors: tuple[str, ...]
    title: str
    year: int
    journal: str = ""
    volume: str = ""
    pages: str = ""
    doi: str = ""
    arxiv: str = ""
    kind: Literal["article", "inproceedings", "misc"] = "article"

    @property
    def marks(self) -> tuple[str, ...]:
        """Texts that identify the paper in a card: DOI, arXiv number, volume and first page."""
        place = f"{self.volume}, {self.pages.partition('-')[0]}" if self.volume and self.pages else ""
        return tuple(text for text in (self.doi, self.arxiv, place) if text)


@dataclass(frozen=True)
class Family:
    """The declaration of a family of models.

    Parameters
    ----------
    name : as in the names of its checkpoints, `name/...`
    title : heading
    status : "experimental", "stable" or "deprecated"
    units : units of the frames that its networks accept, "metal" or "lj"
    default : name of the default checkpoint; "" for none
    fields : all fields in its results; a name must not have another meaning in another family
    options : of `predict` and `evaluate`
    settings : dataclass of the network and training settings, each with a default; its fields become flags of
        `phaseseg train`, a table in the documentation and a section of the card
    symmetries : tested by the conformance suite: "translation", "wrapping", "permutation", "repetition",
        "rotation"; a model with fewer has an attribute `symmetries`
    model : "module:name" of a class that makes a `Model` from a `Checkpoint`
    fit : "module:name" of a function that trains and returns a `Checkpoint`; "" for none
    evaluate : "module:name" of a function `evaluate(runs, model, **options)` that returns an `Evaluation`;
        `runs` has the frames of each file by name; an option `seen` is called with each frame and its
        predicted fields; `mapped`, of type `Mapped`, is the loop over the frames; "" for none
    summary : "module:name" of a class that summarizes the results of many frames
        (`phaseseg.summary.Summary`); "" for a table with one row per frame
    report : "module:name" of a function that describes the training in sentences, from a card; "" for none
    check : "module:name" of a function `check(frame, fields)` that asserts properties of its fields beyond
        levels, shapes and types; called by `phaseseg.testing.check_fields`
    invariant : fields that the symmetries do not change, except for rounding; if left out, all per-atom
        scalars and probabilities
    bond_files : bonds that can be written as tables
    analyses : analyses without a network
    commands : commands of this family only, "command=module:name" of a Typer function
    graph : "module:name" of a class or function for `phaseseg.pyg` that takes a model and returns an adapter
        for its graph networks, or None. `build()` returns a network, `arrays(frame)` its inputs by name with
        the lists `indptr` and `source`, in which each edge also occurs reversed, and `forward(network, data,
        edges, sizes)` its output, a tensor or a named tuple of tensors; "" for none
    demo : "module:name" of a function `demo(folder)` that analyzes bundled files for `phaseseg demo` and
        returns a `phaseseg.terminal.demonstration.Demonstration`; "" for none
    readers : "module:name" of functions that read foreign checkpoints: `reader(path)` returns a
        `Checkpoint`, or None if the path is not in its format
    papers : publications behind its methods and data; the card of a checkpoint says which of them it rests on
    slabs : "module:name" of a function `slabs(store, disk, n_slabs, model, rule, *, device, progress)` that
        predicts a frame whose atoms are on disk (`phaseseg.large.store.FrameStore`) and returns a
        `phaseseg.large.store.InSlabs`; without it, frames must fit into memory
    folder : folder of its bundled checkpoints; families of this package use their subfolder `checkpoints`
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
    papers: tuple[Paper, ...] = ()
    slabs: str = ""
    folder: Path | None = field(default=None, compare=False)

    def options_of(self, *parts: str) -> tuple[Option, ...]:
        """Return the options of these parts: "run", "read", "evaluate"."""
        return tuple(option for option in self.options if option.part in parts)


# --------------------------------------------------------------------------------------- contract

Mapped = Callable[
    [Callable[["Frame"], Any], "Mapping[str, Iterable[Frame]]"], "Iterator[tuple[str, Any, Any]]"
]
"""Applies a function to the frames of all runs, in this process or others; `trajectory.over_runs` is one.

It yields the run, the frame and the result. The function can be pickled: one of a module, or an object with
`__call__`. A worker of a cluster keeps the atoms of its frame; `trajectory.whole_frame` reads them again.
"""


@dataclass(frozen=True, eq=False)
class Part:
    """The output for a slab of a frame, for `Model.merge`.

    output : output of `run` for the slab with its halo
    own : (n_slab,) bool; True for atoms of the slab itself, False for the halo
    atoms : (n_slab,) int64; rows of the atoms in the whole frame
    """

    output: Any
    own: NDArray[np.bool_]
    atoms: NDArray[np.int64]


class Model(Protocol):
    """A checkpoint ready for prediction. `nn.model.NetworkModel` implements most of it.

    A model needs `checkpoint`, `rule`, `run` and `fields`. Without `halo` and `merge` it needs whole frames.

    checkpoint : Checkpoint
    halo : distance up to which atoms affect the prediction for an atom, in the length unit of the frame;
        infinity if the model needs whole frames
    """

    checkpoint: Checkpoint

    @property
    def halo(self) -> float: ...

    def rule(self, **options: Any) -> Any:
        """Parse and check the options; the result has `to_dict()`. None stands for the default.

        A result with `reads_fields = True` needs the further columns of a frame, `Frame.fields`, which faces
        read only then.

        Raises
        ------
        TypeError
            For an unknown option.
        ValueError
            For a value out of range.
        """

    def run(self, frame: Frame, rule: Any, *, device: str = "auto", progress: Progress | None = None) -> Any:
        """Run the networks on a frame, the expensive half. A face may cache the output.

        The output depends only on options of the part "run". A long run calls `progress`, which may raise to
        stop it.
        """

    def fields(self, frame: Frame, output: Any, rule: Any) -> Fields:
        """Compute the fields from the output of `run` for this frame, the cheap half."""

    def merge(self, frame: Frame, parts: Sequence[Part]) -> Any:
        """Merge the outputs of slabs that cover a frame; only with a finite halo."""


@runtime_checkable
class Fitted(Protocol):
    """A model that must learn from all frames of a data set before it predicts any of them.

    fitted : whether it has been fitted; `api.prepare` does this
    """

    fitted: bool

    def fit_frames(self, frames: Iterable[Frame], rule: Any, *, progress: Progress | None = None) -> Model:
        """Return a model fitted to the frames."""


class Evaluation(Protocol):
    """A comparison of predictions with a reference."""

    messages: Iterable[str]

    def __len__(self) -> int:
        """Number of frames."""

    def tables(self) -> Mapping[str, Table]: ...

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as printed by `--json`."""

    def shown(self, name: str) -> Iterable[TextTable | str]:
        """Return the tables and lines to print; `name` names the evaluated file or files."""

    def write(self, folder: Path, about: Mapping[str, Any]) -> Path:
        """Write page, figures, tables and numbers into a folder; return the path of the page."""


# --------------------------------------------------------------------------------------- registry

_registered: dict[str, Family] = {}
_searched = False


def register(family: Family) -> Family:
    """Register a family and its fields for all faces; return the family.

    Raises
    ------
    ValueError
        If another family or field of this name is already registered.
    """
    if _registered.get(family.name, family) != family:
        raise ValueError(f"a family {family.name!r} is already registered; give yours another name.")
    register_fields(*family.fields)
    if family.folder is not None:
        CHECKPOINT_FOLDERS[family.name] = family.folder
    _registered[family.name] = family
    return family


def bundled_families() -> Mapping[str, Family]:
    """Families that come with phaseseg or are registered already; no other package is searched for them."""
    for entry in pkgutil.iter_modules(__path__):
        if entry.ispkg:
            import_module(f"{__name__}.{entry.name}")
    return _registered


class _Families(Mapping[str, Family]):
    """The families by name; folders and entry points are searched on first use."""

    def _all(self) -> dict[str, Family]:
        global _searched
        if not _searched:
            _searched = True
            bundled_families()
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
    """Return the family of this name; ValueError for an unknown one lists the known ones."""
    if name not in FAMILIES:
        raise ValueError(f"there is no model family {name!r}; the families are {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def load(reference: str) -> Any:
    """Import the module of a "module:name" from a declaration and return the object."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
