"""Output of a training: checkpoint, learning curves and, until it is finished, its state."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phaseseg.checkpoint import SUFFIX, Checkpoint, save_checkpoint
from phaseseg.training.curves import Member, write_curves
from phaseseg.training.files import output_file, sibling_path
from phaseseg.training.state import TrainingState


class TrainingOutput:
    """Output of a training; made before the work begins, so that errors appear early.

    Parameters
    ----------
    family : name of the family
    output : .safetensors file to write, or None to write nothing
        Next to it `.curves.csv` and `.curves.png` and, until training is finished, `.state.safetensors`.
    name : of the checkpoint; the family and the name of the file without its suffix if left out
    resume : whether to go on from the state, if there is one

    Raises
    ------
    ValueError
        For a file that cannot be written, a name that is not allowed, and a state of an unfinished training
        where `resume` is not set.
    """

    def __init__(
        self, family: str, output: str | os.PathLike[str] | None, name: str | None, *, resume: bool
    ) -> None:
        self.path = None if output is None else output_file(output)
        self.name = name or f"{family}/{'unnamed' if self.path is None else sibling_path(self.path, '').name}"
        self.resume = resume
        Checkpoint(family, self.name, {}, {"any": np.zeros(1, dtype=np.float32)})  # is the name allowed?
        if self._state_path is not None and not resume:
            TrainingState(self._state_path, {}, resume=False)

    @property
    def _state_path(self) -> Path | None:
        return None if self.path is None else sibling_path(self.path, f".state{SUFFIX}")

    def state(self, settings: Mapping[str, Any]) -> TrainingState | None:
        """The state of this training; see there."""
        path = self._state_path
        return None if path is None else TrainingState(path, settings, resume=self.resume)

    def finish(self, checkpoint: Checkpoint, members: Sequence[Member], error: str) -> Checkpoint:
        """Write checkpoint and curves, and delete the state; return the checkpoint.

        error : the axis label of the validation error
        """
        if self.path is not None and self._state_path is not None:
            save_checkpoint(checkpoint, self.path)
            write_curves(self.path, members, error)
            self._state_path.unlink(missing_ok=True)
        return checkpoint
