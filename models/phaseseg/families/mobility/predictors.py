"""What a method of this family provides: a predictor, made from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint import Checkpoint
from phaseseg.families import load
from phaseseg.frame import Frame
from phaseseg.specs import Progress

if TYPE_CHECKING:
    from phaseseg.families.mobility.structure import Structure

PREDICTORS: dict[str, str] = {
    "bapst": "phaseseg.families.mobility.bapst:BapstPredictor",
    "net": "phaseseg.families.mobility.learner:LearnerPredictor",
    "ridge": "phaseseg.families.mobility.learner:LearnerPredictor",
}
"""The class of the predictor of each method, "module:name"."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a predictor sees of a frame.

    frame : with the species as in the file
    codes : (n_atoms,) int32; 0 for A, 1 for B
    structure : inherent structure and cages, if the predictor needs them
    """

    frame: Frame
    codes: NDArray[np.int32]
    structure: Structure | None = None


@dataclass(frozen=True, eq=False)
class Prediction:
    """mean : (n_targets, n_atoms) float32; spread : the same shape, standard deviation over the members."""

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]


Apply = Callable[[Seen, Progress], Prediction]


class Predictor(Protocol):
    """One method with the weights of a checkpoint.

    needs : "inherent" and "cage", or neither
    symmetries : that the predictions have, at given structures
    halo : distance up to which particles matter, σ; infinity if the whole frame does
    """

    needs: frozenset[str]
    symmetries: frozenset[str]
    halo: float

    def __init__(self, checkpoint: Checkpoint, members: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Read and check the settings; KeyError, TypeError and ValueError become one sentence."""

    def make(self, kind: str) -> Apply:
        """The networks on "cpu" (compiled loops), "torch" or "cuda"; ValueError for weights of no use."""


def predictor_of(
    method: Any, checkpoint: Checkpoint, members: Sequence[Mapping[str, NDArray[Any]]]
) -> Predictor:
    """The predictor of a checkpoint; ValueError for a method of a newer version."""
    if method not in PREDICTORS:
        raise ValueError(f"the method {method!r:.40} is unknown; known are {', '.join(PREDICTORS)}")
    made: Predictor = load(PREDICTORS[method])(checkpoint, members)
    return made
