"""`phaseseg demo`: the other words on what is bundled."""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from phaseseg.cli.console import Labeling, exit_codes, frame_progress, note, print_table
from phaseseg.cli.metrics import metrics_command
from phaseseg.families.segmentation.rules import LabelRule

DEFAULT = LabelRule()
MELTS = ("melt_large_3000K", "melt_large_4000K", "melt_small_3000K", "melt_small_4000K")
GLASS = tuple(f"glass_ka2d_s{seed}" for seed in (901, 902, 903, 904))


def demo_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("demo-output"),
) -> None:
    """Label the bundled melts, at 3000 K and 4000 K, and follow four bundled liquids into the glass."""
    with exit_codes(f"What was finished lies in {output}."):
        from phaseseg.io import OutputError

        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{output}: the folder cannot be made ({error.strerror}).") from None
        _melts(output)
        with as_file(files("phaseseg") / "demo") as folder:
            metrics_command(
                [folder / f"{name}.xyz.gz" for name in GLASS], output / "glass_ka2d.csv",
                report=output / "glass_ka2d",
            )  # fmt: skip


def _melts(output: Path) -> None:
    from phaseseg.families.segmentation.report import write_report
    from phaseseg.io import read_frames, write_frames
    from phaseseg.report import duration

    melts = files("phaseseg") / "demo"
    console = Console(stderr=True)
    waiting = "compiling (only the first time on a machine takes long)"
    status = console.status(waiting) if console.is_terminal else nullcontext()
    with status, as_file(melts / "melt_small_3000K.dump.gz") as path:
        deque(Labeling(path.name, DEFAULT).results(read_frames(path, frames=slice(1))), maxlen=0)
    for name in MELTS:
        with as_file(melts / f"{name}.dump.gz") as path, frame_progress(name, shown=True) as counted:
            run = Labeling(path.name, DEFAULT, scan="small" in name)
            labeled = output / f"{name}.xyz"
            write_frames(labeled, counted(run.results(read_frames(path, dt=0.001)), "labeling"))
            page = write_report(output / name, run.report())
        assert run.shown is not None
        for shown in run.summary.shown():
            print_table(shown)
        for sentence in run.summary.messages:
            note(sentence)
        note(
            f"{len(run.summary)} x {run.shown[0].n_atoms:,} atoms read and labeled in "
            f"{duration(run.seconds)}.\n  labeled atoms  {labeled}\n  report         {page}\n"
        )
