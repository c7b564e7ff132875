"""Training of the methods of this family: `phaseseg train mobility`. A ridge needs no PyTorch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from phaseseg.checkpoint import Checkpoint
from phaseseg.families.mobility.settings import MobilitySettings
from phaseseg.specs import Progress
from phaseseg.training.loop import require_torch
from phaseseg.training.runs import RunData


def fit(
    data: RunData | Iterable[RunData],
    *,
    output: str | os.PathLike[str] | None = None,
    name: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Checkpoint:
    """Train by one of the methods of the family, on configurations with measured propensities.

    Parameters
    ----------
    data : files, or iterables of frames, in reduced units; each is a system of its own, or a run whose
        configurations stay together
    output : .safetensors file to write; the state of an interrupted training goes next to it, and the
        learning curves of networks
    name : of the checkpoint, "mobility/..."
    options : settings of `MobilitySettings`

    Returns
    -------
    Checkpoint
        Its uncertainty is calibrated on the systems that a member was not trained on: 90 % of their
        particles lie within 1.645 standard deviations.

    Raises
    ------
    ImportError
        If PyTorch is not installed and the method needs it; a ridge does not.
    ValueError
        For settings out of range or of another method, fewer systems than folds, frames without the target
        or of other units, and configurations that cannot be minimized.
    KeyboardInterrupt
        The message says where the state was saved.
    """
    settings = MobilitySettings(**options)
    if settings.method != "ridge":
        require_torch()
    if settings.method == "bapst":
        from phaseseg.families.mobility.message_fit import fit_messages

        return fit_messages(data, settings, output=output, name=name, progress=progress)
    from phaseseg.families.mobility.learner_data import fit_from_files

    return fit_from_files(data, settings, output=output, name=name, progress=progress)
