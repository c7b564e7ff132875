"""The four doors to every family: `load_model`, `predict`, `fit` and `evaluate`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
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
    Model,
    Progress,
    family_named,
    load,
    register,
)
from phaseseg.fields import Fields
from phaseseg.frame import Frame
from phaseseg.nn.device import Device
from phaseseg.training.loop import require_torch
from phaseseg.trajectory import Backend, map_frames

# So many models are kept ready.
KEPT = 8

AnyModel = str | os.PathLike[str] | Checkpoint | Model
Runs = Mapping[str, Iterable[Frame]]

_models: dict[str, Model] = {}  # the least recently used comes first
_files: dict[tuple[str, int, int, int], str] = {}
_lock = threading.Lock()


def default_checkpoint(family: str = families.DEFAULT) -> str:
    """Name of the checkpoint that a family uses when none is asked for.

    Raises
    ------
    CheckpointError
        For an unknown family, or one without a checkpoint of its own.

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
    """The model of a checkpoint, kept ready by the hash of its content.

    Parameters
    ----------
    name_or_path : a bundled name ("FAMILY/NAME" or "NAME"), a file, a Checkpoint, or a model,
        which is given back as it is; if left out, the default checkpoint of the family
    family : name of the one family that will do, where there is one

    Returns
    -------
    Model
        Its class is that of the family of the checkpoint.

    Raises
    ------
    CheckpointError
        As `load_checkpoint`, and for a checkpoint of another family, or of one without models.
    TypeError
        For an object that is no model.
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
        status = path.stat()  # changes when a file is written anew
        key = os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ino
        digest = _files.get(key, "")
        if digest not in _models:
            checkpoint = load_checkpoint(name_or_path)
    digest = digest if checkpoint is None else checkpoint.hash
    with _lock:
        model = _models.pop(digest, None)
        if model is None:
            if checkpoint is None:  # the model was dropped in the meantime
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
    """A checkpoint in the format of another program, if a family can read it."""
    readers = [reader for family in FAMILIES.values() for reader in family.readers]
    if not readers or os.fspath(name_or_path) in bundled_checkpoints():
        return None
    path = Path(name_or_path).expanduser()
    return next((found for reader in readers if (found := load(reader)(path)) is not None), None)


def _made(checkpoint: Checkpoint) -> Model:
    if checkpoint.family not in FAMILIES:
        raise CheckpointError(
            f"{checkpoint.name}: this is a checkpoint of the family {checkpoint.family}, and this version of "
            f"phaseseg has models of {' and '.join(FAMILIES)}."
        )
    return _complete(load(FAMILIES[checkpoint.family].model)(checkpoint))


def _complete(model: Any) -> Model:
    missing = [part for part in ("checkpoint", "rule", "run", "fields") if not hasattr(model, part)]
    if missing:
        raise TypeError(
            f"{type(model).__name__} is no model: it has no {', '.join(missing)} "
            "(see phaseseg.families.Model)."
        )
    found: Model = model
    return found


def _of_family(model: Model, family: str | None) -> Model:
    if family is not None and model.checkpoint.family != family:
        raise CheckpointError(
            f"{model.checkpoint.name}: this is a checkpoint of the family {model.checkpoint.family}, and not "
            f"of {family}."
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
    device : "auto" or "cpu" (compiled loops, no torch), "torch" (torch on the processor) or "cuda"
    progress : called with the fraction that is done and a line of text, by families whose work is long; it
        may raise an exception to end the work
    options : those of the family of the model; `phaseseg predict --help` and the pages of the documentation
        list them, and `load_model(model).rule()` shows their defaults

    Returns
    -------
    Fields
        The names that the family registers (`FAMILIES[family].fields`), with messages in `.messages`.

    Raises
    ------
    ValueError
        No atoms, species or units that the network does not know, an option out of range.
    CheckpointError
        A checkpoint that is not there or cannot be used.
    TypeError
        Unknown option.
    ImportError, RuntimeError
        A device that is not at hand.
    """
    network: Model = load_model(model)
    rule = network.rule(**options)
    network = prepare(network, [frame], rule, progress=progress)
    return network.fields(frame, network.run(frame, rule, device=device, progress=progress), rule)


def predictor(
    model: AnyModel, rule: Any, *, device: Device = "auto", progress: Progress | None = None
) -> Callable[[Frame], Fields]:
    """A function that predicts a frame by a rule of the model, for `map_frames`.

    model : as for `load_model`; a process that gets a name reads the file once
    progress : as for `predict`; only within one process
    """
    family = FAMILIES[load_model(model).checkpoint.family]
    return partial(_predict, model, rule, device, progress, family=family)


def _predict(
    model: AnyModel, rule: Any, device: Device, progress: Progress | None, frame: Frame, *, family: Family
) -> Fields:
    register(family)  # another process does not know what a script has registered
    network: Model = load_model(model)
    return network.fields(frame, network.run(frame, rule, device=device, progress=progress), rule)


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
    """`predict` for every frame of a trajectory, in order; see there, and `map_frames` for the workers.

    frames : a model that learns from all frames first reads them twice, and keeps them if it must
    """
    network: Model = load_model(model)
    rule = network.rule(**options)
    if isinstance(network, Fitted) and not network.fitted:
        frames = list(frames)
        network = model = prepare(network, frames, rule, progress=progress)
    # Processes get the name of a file, which each reads once.
    sent = network if workers == 1 or model is None else model
    return map_frames(predictor(sent, rule, device=device), frames, workers=workers, backend=backend)


def prepare(model: Model, frames: Iterable[Frame], rule: Any, *, progress: Progress | None = None) -> Model:
    """The model, ready for each of these frames: a model that learns from a whole data set has seen them."""
    if isinstance(model, Fitted) and not model.fitted:
        return model.fit_frames(frames, rule, progress=progress)
    return model


def fit(data: Any, family: str = families.DEFAULT, **options: Any) -> Checkpoint:
    """Train a network of a family.

    The options are those of the function that the family declares, `FAMILIES[family].fit`.

    Raises
    ------
    ImportError
        If PyTorch is not installed; the sentence says how to get it.
    ValueError
        For an unknown family, and for data that cannot be learned from.
    """
    found = family_named(family)
    if not found.fit:
        raise ValueError(f"networks of the family {family} are not trained here.")
    require_torch()
    checkpoint: Checkpoint = load(found.fit)(data, **options)
    return checkpoint


def evaluate(
    runs: Runs | Iterable[Frame], model: AnyModel | None = None, *, device: Device = "auto", **options: Any
) -> Evaluation:
    """Compare the predictions of a model with a reference; the options are those of its family.

    Parameters
    ----------
    runs : the frames of every run by its name; or frames, which are one run
    model : as for `load_model`

    Raises
    ------
    TypeError
        Unknown option.
    ValueError
        No frames, or frames without the reference; a family without an evaluation.
    """
    network = load_model(model)
    found = family_named(network.checkpoint.family)
    if not found.evaluate:
        raise ValueError(f"networks of the family {found.name} cannot be evaluated.")
    known = [option.name for option in found.options_of("evaluate")]
    unknown = [name for name in options if known and name not in known]
    if unknown:
        raise TypeError(
            f"unknown option {', '.join(unknown)}; the options of an evaluation of "
            f"{network.checkpoint.name} are {', '.join(known)}."
        )
    named = runs if isinstance(runs, Mapping) else {"frames": runs}
    result: Evaluation = load(found.evaluate)(named, network, device=device, **options)
    return result
