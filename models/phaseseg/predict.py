"""predict: the one door of every face to the networks."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from phaseseg.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from phaseseg.families.segmentation.prediction import Device, SegmentationModel
from phaseseg.fields import Fields
from phaseseg.frame import Frame

# So many models are kept ready.
KEPT = 8

Model = str | os.PathLike[str] | Checkpoint | SegmentationModel

_models: OrderedDict[str, SegmentationModel] = OrderedDict()
_files: dict[tuple[str, int, int, int], str] = {}
_lock = threading.Lock()


def load_model(name_or_path: Model = "segmentation/gat-v1") -> SegmentationModel:
    """The model of a checkpoint, kept ready by the hash of its content.

    Parameters
    ----------
    name_or_path : a bundled name ("segmentation/gat-v1" or "gat-v1"), a file, a Checkpoint, or a model,
        which is given back as it is

    Raises
    ------
    CheckpointError
        As `load_checkpoint`, and for a checkpoint that is no segmentation network.
    """
    if isinstance(name_or_path, SegmentationModel):
        return name_or_path
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
            model = SegmentationModel.of(checkpoint)
        _models[digest] = model
        _models.move_to_end(digest)
        if key is not None:
            _files[key] = digest
        while len(_models) > KEPT:
            dropped, _ = _models.popitem(last=False)
            for file in [file for file, known in _files.items() if known == dropped]:
                del _files[file]
    return model


def _state(path: Path) -> tuple[str, int, int, int]:
    """What changes when a file is written anew."""
    status = path.stat()
    return os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ino


def predict(
    frame: Frame, model: Model = "segmentation/gat-v1", *, device: Device = "auto", **options: Any
) -> Fields:
    """Phase, probability and uncertainty of every atom, by a trained network.

    The network gives every atom a score, about its signed distance to the interface. The interface is
    where the scores, smoothed over 1 Å, pass the level of the threshold; domains, distances, boundary,
    composition and tables follow from it as for `label_phases`. An atom is rich or poor by its own score.

    Parameters
    ----------
    frame : Frame
    model : name of a bundled checkpoint, file, Checkpoint or model (`load_model`)
    device : "auto" or "cpu" (compiled loops, no torch), "torch" (torch on the processor) or "cuda"
    threshold : probability from which on an atom is rich, default 0.5
    boundary_width : Å, default that of the labels that the network was trained on
        Atoms within half of it from the interface are boundary; 0 for none.
    boundary : "interface" (default), "voxels" or "learned"
        Voxels: overlap of the two phases dilated on a 50 x 50 x 50 grid, as in the paper's code, for
        comparison. Learned: the third class of a network that has one. Neither has a width.
    keep : "all" (default) or "largest"
        Rich domains that count: all of `min_volume`, or the largest alone.
    min_volume : Å^3, default that of the labels that the network was trained on
    bulk_distance : float, Å, default 5
        Atoms farther than this from the interface are the bulk of their phase in the tables.

    Returns
    -------
    Fields
        `phase`, `phase_probability` (n_atoms, 2: poor, rich; 3 with a learned boundary),
        `phase_uncertainty`, `interface_distance`, `domain` per atom; `n_phases`, thresholds, fractions,
        area, width, `mean_uncertainty`, `outside_training` per frame; `score_grid`; tables `composition`,
        `partition`, `domains`, `proxigram`; sentences in `.messages`. Where one side is empty all atoms are
        one class, `interface_distance` is NaN and there are no domains.

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
    network = load_model(model)
    network.rule(**options)  # before the work
    return network.fields(frame, network.score(frame, device=device), **options)
