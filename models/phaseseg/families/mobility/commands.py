"""The part of this family in `phaseseg demo`."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from time import perf_counter

from phaseseg.terminal.demonstration import Demonstration
from phaseseg.terminal.show import frame_bar
from phaseseg.version import __version__

LIQUID = "liquid_ka3d_t064.xyz.gz"
CHECKPOINT = "mobility/net-ka3d-t064-minimized-v1"
"""It needs a minimization only, which takes seconds; cage runs take half a minute more."""


def demo(output: Path) -> Demonstration:
    """Compare predicted and simulated mobility of the bundled liquid at T = 0.64."""
    from phaseseg.checkpoint import load_checkpoint
    from phaseseg.families.mobility.comparison import OF_CEILING, RHO
    from phaseseg.families.mobility.evaluation import evaluate
    from phaseseg.families.mobility.model import MobilityModel
    from phaseseg.io import read_frames

    model, start = MobilityModel(load_checkpoint(CHECKPOINT)), perf_counter()
    with as_file(files("phaseseg") / "demo" / LIQUID) as path, frame_bar(LIQUID, shown=True) as bar:
        runs = {LIQUID: bar.frames(read_frames(path, fields=True), "predicting mobility")}
        result = evaluate(runs, model)
    checkpoint = {"name": model.checkpoint.name, "hash": model.checkpoint.hash}
    about = {
        "version": __version__, "checkpoint": checkpoint, "inputs": [LIQUID],
        "seconds": perf_counter() - start,
    }  # fmt: skip
    page = result.write(output / LIQUID.partition(".")[0], about)
    row = next(iter(result.score_table().rows()))
    meaning = (
        f"is the correlation with the simulated mobility of {row['type']} particles, "
        f"{row[OF_CEILING]:.0%} of what its noise allows"
    )
    return Demonstration(
        "Mobility: the motion of the particles of a supercooled liquid was predicted from one snapshot.",
        ((f"{row[RHO]:.2f}", meaning),),
        [page], "phaseseg predict YOUR_LIQUID.xyz -m net-ka3d-v1 -o predicted.xyz",
    )  # fmt: skip
