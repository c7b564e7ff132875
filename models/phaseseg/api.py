"""predict: the one door of every face to the networks."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload, runtime_checkable

from phaseseg.checkpoint import Checkpoint, CheckpointError, find_checkpoint, load_checkpoint
from phaseseg.fields import Fields
from phaseseg.frame import Frame
from phaseseg.nn.device import Device

if TYPE_CHECKING:
    from phaseseg.families.segmentation.model import SegmentationModel

# The module and class of each family's models; imported when the first is asked for.
MODELS = {
    "segmentation": ("phaseseg.families.segmentation.model", "SegmentationModel"),
    "liquid_glass": ("phaseseg.families.liquid_glass.model", "GlassModel"),
}
# So many models are kept ready.
KEPT = 8


@runtime_checkable
class TrainedModel(Protocol):
    """What the models of all families have.

    checkpoint : Checkpoint; name : of the checkpoint; n_members : number of networks
    """

    checkpoint: Checkpoint
    name: str

    @property
    def n_members(self) -> int: ...

    def rule(self, **options: Any) -> Any:
        """The rule of a prediction with these options.

        Raises
        ------
        TypeError
            For an option that the family does not have.
        ValueError
            For a value out of range.
        """

    def check_device(self, device: str) -> None:
        """Raise ValueError for a device that is none."""

    def predict(self, frame: Frame, *, device: Device = "auto", **options: Any) -> Fields:
        """The fields of a frame; see `phaseseg.api`."""


Model = str | os.PathLike[str] | Checkpoint | TrainedModel

_models: OrderedDict[str, TrainedModel] = OrderedDict()
_files: dict[tuple[str, int, int, int], str] = {}
_lock = threading.Lock()


@overload
def load_model(name_or_path: Model, family: Literal["segmentation"]) -> SegmentationModel: ...


@overload
def load_model(name_or_path: Model = ..., family: str | None = None) -> TrainedModel: ...


def load_model(name_or_path: Model = "segmentation/gat-v1", family: str | None = None) -> TrainedModel:
    """The model of a checkpoint, kept ready by the hash of its content.

    Parameters
    ----------
    name_or_path : a bundled name ("segmentation/gat-v1" or "gat-v1"), a file, a Checkpoint, or a model,
        which is given back as it is
    family : name of the one family that will do, where there is one

    Returns
    -------
    TrainedModel
        A `SegmentationModel` or another, as the family of the checkpoint says.

    Raises
    ------
    CheckpointError
        As `load_checkpoint`, and for a checkpoint of another family, or of one without models.
    """
    if isinstance(name_or_path, TrainedModel):
        return _of_family(name_or_path, family)
    key, checkpoint = None, None
    if isinstance(name_or_path, Checkpoint):
        checkpoint = name_or_path
        digest = checkpoint.hash
    else:
        path = find_checkpoint(name_or_path)
        key = _state(path)
        digest = _files.get(key, "")
        if digest not in _models:
            checkpoint = load_checkpoint(name_or_path)
            digest = checkpoint.hash
    with _lock:
        model = _models.get(digest)
        if model is None:
            if checkpoint is None:
                checkpoint = load_checkpoint(name_or_path)  # type: ignore[arg-type]
                digest = checkpoint.hash
            model = _made(checkpoint)
        _models[digest] = model
        _models.move_to_end(digest)
        if key is not None:
            _files[key] = digest
        while len(_models) > KEPT:
            dropped, _ = _models.popitem(last=False)
            for file in [file for file, known in _files.items() if known == dropped]:
                del _files[file]
    return _of_family(model, family)


def _made(checkpoint: Checkpoint) -> TrainedModel:
    if checkpoint.family not in MODELS:
        raise CheckpointError(
            f"{checkpoint.name}: this is a checkpoint of the family {checkpoint.family}, and this version of "
            f"phaseseg has models of {' and '.join(MODELS)}."
        )
    module, name = MODELS[checkpoint.family]
    model: TrainedModel = getattr(import_module(module), name).of(checkpoint)
    return model


def _of_family(model: TrainedModel, family: str | None) -> TrainedModel:
    if family is not None and model.checkpoint.family != family:
        raise CheckpointError(
            f"{model.name}: this is a checkpoint of the family {model.checkpoint.family}, and not of "
            f"{family}."
        )
    return model


def _state(path: Path) -> tuple[str, int, int, int]:
    """What changes when a file is written anew."""
    status = path.stat()
    return os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ino


def predict(
    frame: Frame, model: Model = "segmentation/gat-v1", *, device: Device = "auto", **options: Any
) -> Fields:
    """What a trained network says of a frame and of its atoms.

    A network of the family *segmentation* gives every atom a score, about its signed distance to the
    interface. The interface is where the scores, smoothed over 1 Å, pass the level of the threshold; domains,
    distances, boundary, composition and tables follow from it as for `label_phases`. An atom is rich or poor
    by its own score. A network of the family *liquid_glass* gives the probability that a configuration, and
    the surroundings of each particle, are those of a glass.

    Parameters
    ----------
    frame : Frame
    model : name of a bundled checkpoint, file, Checkpoint or model (`load_model`)
    device : "auto" or "cpu" (compiled loops, no torch), "torch" (torch on the processor) or "cuda"
    threshold : probability from which on an atom is rich, a configuration a glass; default 0.5
    boundary_width : Å, default that of the labels that the network was trained on; segmentation
        Atoms within half of it from the interface are boundary; 0 for none.
    boundary : "interface" (default), "voxels" or "learned"; segmentation
        Voxels: overlap of the two phases dilated on a 50 x 50 x 50 grid, as in the paper's code, for
        comparison. Learned: the third class of a network that has one. Neither has a width.
    keep : "all" (default) or "largest"; segmentation
        Rich domains that count: all of `min_volume`, or the largest alone.
    min_volume : Å^3, default that of the labels that the network was trained on; segmentation
    bulk_distance : float, Å, default 5; segmentation
        Atoms farther than this from the interface are the bulk of their phase in the tables.
    b : name or names of the species that are the network's B, all others its A; liquid_glass
        Default: the frame's own names, which must then be those of the network.
    attention : bool, default True: the attention and its graph, of networks that have it; liquid_glass

    Returns
    -------
    Fields
        Of segmentation: `phase`, `phase_probability` (n_atoms, 2: poor, rich; 3 with a learned boundary),
        `phase_uncertainty`, `interface_distance`, `domain` per atom; `n_phases`, thresholds, fractions,
        area, width, `mean_uncertainty`, `outside_training` per frame; `score_grid`; tables `composition`,
        `partition`, `domains`, `proxigram`; sentences in `.messages`. Where one side is empty all atoms are
        one class, `interface_distance` is NaN and there are no domains.
        Of liquid_glass: see `phaseseg.families.liquid_glass.model.GlassModel.fields`.

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
    return load_model(model).predict(frame, device=device, **options)
