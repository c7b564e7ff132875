"""What is recorded of the bundled networks of two liquids."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any

from numpy.typing import NDArray

from phaseseg import Frame, read_frames
from phaseseg.checkpoint import Checkpoint

SHIPPED = {f"{kind}-{t}K-v1" for kind in ("gat", "gcn") for t in (3000, 4000)} | {"gat-v1"}
CARD = {"label_rule"}
FRAMES = {"small_3000K": 0, "small_4000K": 40}


def frames(checkpoint: Checkpoint) -> dict[str, Frame]:
    """Two frames of the bundled trajectories of 520 atoms."""
    found = {}
    for name, number in FRAMES.items():
        with as_file(files("phaseseg") / "demo" / f"melt_{name}.dump.gz") as path:
            found[name] = next(read_frames(path, frames=slice(number, number + 1)))
    return found


def outputs(model: Any, frame: Frame) -> dict[str, NDArray[Any]]:
    """What is compared, by name."""
    scores = model.run(frame)
    fields = model.fields(frame, scores)
    return {
        "member scores": scores.members,
        "probability": scores.probability,
        "uncertainty": scores.uncertainty,
        "phase": fields["phase"],
        "distance": fields["interface_distance"],
    }


def refused(checkpoint: Checkpoint) -> set[str]:
    """Awkward frames that these networks cannot take: a cell narrower than their field is smooth."""
    return {"tiny"}
