"""Functions that work for every family: `load_model`, `predict`, `fit` and `evaluate`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from phaseseg import families
from phaseseg.checkpoint import (
    Checkpoint,
    CheckpointError,
    bundled_checkpoints,
    find_checkpoint,
    load_checkpoint,
)
from phaseseg.families import (
    FAMILIES,
    Evaluation,
    Family,
    Fitted,
    Mapped,
    Model,
    Part,
    Progress,
    family_named,
    load,
    register,
)
from phaseseg.fields import Fields, fields_or_none
from phaseseg.frame import Frame
from phaseseg.large.cut import slab_of
from phaseseg.nn.device import Device
from phaseseg.training.loop import require_torch
from phaseseg.trajectory import Backend, map_frames, over_runs

KEPT = 8  # number of models kept in memory

AnyModel = str | os.PathLike[str] | Checkpoint | Model
Runs = Mapping[str, Iterable[Frame]]

_models: dict[str, Model] = {}  # least recently used first
_files: dict[tuple[str, int, int, int], str] = {}
_lock = threading.Lock()


def default_checkpoint(family: str = families.DEFAULT) -> str:
    """Return the name of the default checkpoint of a family.

    Raises
    ------
    CheckpointError
        For an unknown family, or one without a default checkpoint.

    Examples
    --------
    >>> from phaseseg import list_checkpoints
    >>> default_checkpoint() in [entry.name for entry in list_checkpoints()]
    True
    """
    if family not in FAMILIES or not FAMILIES[family].default:
        raise CheckpointError(f"{family!r}: this family has no default checkpoint; give a name or a file.")
    return FAMILIES[family].default


def load_model(name_or_path: AnyModel | None = None, family: str | None = None) -> Any:
    """Load the model of a checkpoint; recently used models are cached by the hash of their content.

    Parameters
    ----------
    name_or_path : a bundled name ("FAMILY/NAME" or "NAME"), a file, a Checkpoint, or a model, which is
        returned unchanged; if left out, the default checkpoint of the family
    family : name of the required family; any family if left out

    Returns
    -------
    Model
        Its class depends on the family of the checkpoint.

    Raises
    ------
    CheckpointError
        As for `load_checkpoint`, and for a checkpoint of an unknown family or of another than `family`.
    TypeError
        For an object that is not a model.
    """
    if name_or_path is None:
        name_or_path = default_checkpoint(family or families.DEFAULT)
    if not isinstance(name_or_path, str | os.PathLike | Checkpoint):
        return _of_family(_complete(name_or_path), family)
    key, checkpoint, digest = None, None, ""
    if isinstance(name_or_path, Checkpoint):
        checkpoint = name_or_path
    elif (checkpoint := _foreign(name_or_path)) is None:
        path = find_checkpoint(name_or_path)
        status = path.stat()  # changes when the file is rewritten
        key = os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ino
        digest = _files.get(key, "")
        if digest not in _models:
            checkpoint = load_checkpoint(name_or_path)
    digest = digest if checkpoint is None else checkpoint.hash
    with _lock:
        model = _models.pop(digest, None)
        if model is None:
            if checkpoint is None:  # another thread has dropped the model
                checkpoint = load_checkpoint(name_or_path)  # type: ignore[arg-type]
                digest = checkpoint.hash
            model = _made(checkpoint)
        _models[digest] = model
        if key is not None:
            _files[key] = digest
        while len(_models) > KEPT:
            del _models[next(iter(_models))]
    return _of_family(model, family)


def _foreign(name_or_path: str | os.PathLike[str]) -> Checkpoint | None:
    """Read a checkpoint in the format of another program; None if no family can."""
    readers = [reader for family in FAMILIES.values() for reader in family.readers]
    if not readers or os.fspath(name_or_path) in bundled_checkpoints():
        return None
    path = Path(name_or_path).expanduser()
    return next((found for reader in readers if (found := load(reader)(path)) is not None), None)


def _made(checkpoint: Checkpoint) -> Model:
    if checkpoint.family not in FAMILIES:
        raise CheckpointError(
            f"{checkpoint.name}: this is a checkpoint of the family {checkpoint.family}, but this version of "
            f"phaseseg only knows {' and '.join(FAMILIES)}."
        )
    return _complete(load(FAMILIES[checkpoint.family].model)(checkpoint))


def _complete(model: Any) -> Model:
    missing = [part for part in ("checkpoint", "rule", "run", "fields") if not hasattr(model, part)]
    if missing:
        raise TypeError(
            f"{type(model).__name__} is not a model: it has no {', '.join(missing)} "
            "(see phaseseg.families.Model)."
        )
    found: Model = model
    return found


def _of_family(model: Model, family: str | None) -> Model:
    if family is not None and model.checkpoint.family != family:
        raise CheckpointError(
            f"{model.checkpoint.name}: this is a checkpoint of the family {model.checkpoint.family}, not "
            f"{family}."
        )
    return model


def predict(
    frame: Frame,
    model: AnyModel | None = None,
    *,
    device: Device = "auto",
    progress: Progress | None = None,
    **options: Any,
) -> Fields:
    """Apply the networks of a checkpoint to a frame.

    Parameters
    ----------
    frame : Frame
    model : name of a bundled checkpoint, file, Checkpoint or model (`load_model`); the default checkpoint if
        left out
    device : "auto" or "cpu" (compiled loops, no PyTorch), "torch" (PyTorch on the CPU) or "cuda"
    progress : called with the completed fraction and a line of text by families that run for long; it may
        raise an exception to stop the prediction
    options : options of the model's family, listed in `phaseseg predict --help` and in the documentation;
        `load_model(model).rule()` shows the defaults

    Returns
    -------
    Fields
        The fields that the family declares (`FAMILIES[family].fields`), with messages in `.messages`.

    Raises
    ------
    ValueError
        For a frame without atoms, species or units unknown to the network, or an option out of range.
    CheckpointError
        If the checkpoint is missing or cannot be used.
    TypeError
        For an unknown option.
    ImportError, RuntimeError
        If the device is not available.
    """
    network: Model = load_model(model)
    rule = network.rule(**options)
    network = prepare(network, [frame], rule, progress=progress)
    return predictor(network, rule, device=device, progress=progress)(frame)


def predictor(
    model: AnyModel, rule: Any, *, device: Device = "auto", progress: Progress | None = None, slabs: int = 1
) -> Callable[[Frame], Fields]:
    """Return a function that predicts one frame with fixed options, for `map_frames`.

    model : as for `load_model`; given a name, each process reads the file once
    rule : options parsed by the `rule` of the model
    progress : as for `predict`; works within one process only
    slabs : number of slabs in which the networks run on a frame, one after the other, to take less memory

    ValueError for slabs of a model that needs whole frames.
    """
    network = load_model(model)
    if slabs > 1 and not getattr(network, "halo", inf) < inf:
        raise ValueError(
            f"{network.checkpoint.name} needs whole frames, because its answer for an atom may depend on any "
            "other atom: frames are not cut into slabs."
        )
    family = FAMILIES[network.checkpoint.family]
    return partial(_predict, model, rule, device, progress, family=family, slabs=slabs)


def _predict(
    model: AnyModel, rule: Any, device: Device, progress: Progress | None, frame: Frame, *, family: Family,
    slabs: int = 1,
) -> Fields:  # fmt: skip
    if family.name not in FAMILIES:  # a worker process lacks the families that a script has registered
        register(family)
    network: Model = load_model(model)
    if slabs == 1:
        return network.fields(frame, network.run(frame, rule, device=device, progress=progress), rule)
    parts = []
    for k in range(slabs):
        if progress is not None:
            progress(k / slabs, f"slab {k + 1} of {slabs}")
        slab = slab_of(frame, network.halo, k, slabs)
        if slab.own.any():
            parts.append(Part(network.run(slab.frame, rule, device=device), slab.own, slab.atoms))
    return network.fields(frame, network.merge(frame, parts), rule)


def predict_frames(
    frames: Iterable[Frame],
    model: AnyModel | None = None,
    *,
    device: Device = "auto",
    workers: int = 1,
    backend: Backend = "auto",
    progress: Progress | None = None,
    **options: Any,
) -> Iterator[Fields]:
    """Apply `predict` to every frame of a trajectory, in order; frames without atoms give no fields.

    frames : kept in memory if the model must first learn from all of them; otherwise read one by one
    workers, backend : as for `map_frames`
    """
    network: Model = load_model(model)
    rule = network.rule(**options)
    if isinstance(network, Fitted) and not network.fitted:
        frames = list(frames)
        network = model = prepare(network, frames, rule, progress=progress)
    # Given a name instead of the model, each process reads the file once.
    sent = network if workers == 1 or model is None else model
    function = partial(fields_or_none, predictor(sent, rule, device=device))
    return map_frames(function, frames, workers=workers, backend=backend)


def prepare(model: Model, frames: Iterable[Frame], rule: Any, *, progress: Progress | None = None) -> Model:
    """Return the model, fitted to these frames if it must learn from the whole data set first."""
    if isinstance(model, Fitted) and not model.fitted:
        return model.fit_frames(filter(len, frames), rule, progress=progress)
    return model


def fit(data: Any, family: str = families.DEFAULT, **options: Any) -> Checkpoint:
    """Train a network of a family.

    The options are those of the training function of the family, `FAMILIES[family].fit`.

    Raises
    ------
    ImportError
        If PyTorch is needed and not installed; the message says how to install it.
    ValueError
        For an unknown family, or data that cannot be used for training.
    """
    found = family_named(family)
    if not found.fit:
        raise ValueError(f"networks of the family {family} cannot be trained with phaseseg.")
    try:
        checkpoint: Checkpoint = load(found.fit)(data, **options)
    except ModuleNotFoundError:
        require_torch()  # a sentence that says how to install it
        raise
    return checkpoint


def evaluate(
    runs: Runs | Iterable[Frame],
    model: AnyModel | None = None,
    *,
    device: Device = "auto",
    seen: Callable[[Frame, Mapping[str, Any]], None] | None = None,
    mapped: Mapped = over_runs,
    **options: Any,
) -> Evaluation:
    """Compare the predictions of a model with a reference.

    Parameters
    ----------
    runs : frames of each run by name, or the frames of a single run
    model : as for `load_model`
    device : as for `predict`
    seen : called with every frame and its predicted fields, for example to show them
    mapped : applies a function to all frames; `functools.partial(over_runs, workers=4)` with `over_runs` of
        `phaseseg.trajectory` does so in four processes
    options : evaluation options of the model's family

    Raises
    ------
    TypeError
        For an unknown option.
    ValueError
        If there are no frames, frames lack the reference, or the family has no evaluation.
    """
    network = load_model(model)
    found = family_named(network.checkpoint.family)
    if not found.evaluate:
        raise ValueError(f"networks of the family {found.name} cannot be evaluated.")
    known = [option.name for option in found.options_of("evaluate")]
    unknown = [name for name in options if known and name not in known]
    if unknown:
        raise TypeError(
            f"unknown option {', '.join(unknown)}; the evaluation options of {network.checkpoint.name} are "
            f"{', '.join(known)}."
        )
    named = runs if isinstance(runs, Mapping) else {"frames": runs}
    given = options if seen is None else {**options, "seen": seen}
    over = partial(_mapped, mapped, found)
    result: Evaluation = load(found.evaluate)(named, network, device=device, mapped=over, **given)
    return result


def _mapped(
    mapped: Mapped, family: Family, function: Callable[[Frame], Any], runs: Runs
) -> Iterator[tuple[str, Any, Any]]:
    return mapped(partial(_applied, family, function), runs)


def _applied(family: Family, function: Callable[[Frame], Any], frame: Frame) -> Any:
    if family.name not in FAMILIES:  # a worker process lacks the families that a script has registered
        register(family)
    return function(frame)
