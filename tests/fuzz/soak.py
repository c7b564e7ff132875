"""Memory over time: `cd tests && python -m fuzz.soak --what label --minutes 60`.

A bundled run is read again and again. Every few seconds the memory of the process is sampled. After a warm-up
of a fifth of the time it must stay constant, up to what a summary stores for each frame.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from itertools import cycle
from pathlib import Path

import numpy as np

from phaseseg import Frame

PATH = str(files("phaseseg") / "demo" / "melt_small_3000K.dump.gz")
GLASS = str(files("phaseseg") / "demo" / "glass_ka2d_s901.xyz.gz")


def _frames(path: str, analyze: Callable[[Frame], object]) -> Iterator[None]:
    """Read a file again and again, one frame at a time."""
    from phaseseg.io import read_frames

    while True:
        for frame in read_frames(path):
            analyze(frame)
            yield


def _label() -> Iterator[None]:
    from phaseseg import label_phases

    return _frames(PATH, label_phases)


def _predict() -> Iterator[None]:
    from phaseseg.api import predict_frames
    from phaseseg.io import read_frames

    while True:
        for _ in predict_frames(read_frames(PATH)):
            yield


def _metrics() -> Iterator[None]:
    from phaseseg import glass_metrics

    return _frames(GLASS, glass_metrics)


def _summary() -> Iterator[None]:
    """As `phaseseg label`: the summary keeps the tables of every frame."""
    from phaseseg.families.segmentation.labels.weak_labels import label_trajectory
    from phaseseg.families.segmentation.trajectory_statistics import TrajectorySummary
    from phaseseg.io import read_frames

    summary = TrajectorySummary()
    while True:
        for pair in label_trajectory(read_frames(PATH)):
            summary.add(*pair)
            yield


def _ovito() -> Iterator[None]:
    from ovito.io import import_file

    from ovito_phaseseg import GlassMetrics, PhaseSegmentation, WeakPhaseLabels

    melt, glass = import_file(PATH), import_file(GLASS)
    for modifier in (WeakPhaseLabels(), PhaseSegmentation()):
        melt.modifiers.append(modifier)
    glass.modifiers.append(GlassMetrics())
    for number in cycle(range(melt.num_frames)):
        melt.compute(number)
        glass.compute(number % glass.num_frames)
        yield


WORK = {"label": _label, "predict": _predict, "metrics": _metrics, "summary": _summary, "ovito": _ovito}


def megabytes() -> float:
    """Resident memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def soak(what: str, seconds: float, every: float = 2.0) -> tuple[int, np.ndarray]:
    """Return the number of frames and rows of (seconds, frames, megabytes)."""
    begin = time.monotonic()
    rows: list[tuple[float, int, float]] = []
    for n, _ in enumerate(WORK[what](), start=1):
        now = time.monotonic() - begin
        if now >= len(rows) * every:
            rows.append((now, n, megabytes()))
        if now >= seconds:
            break
    return n, np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fuzz.soak", description=__doc__)
    parser.add_argument("--what", choices=WORK, default="label")
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    n, rows = soak(given.what, 60 * given.minutes)
    late = rows[len(rows) // 5 :]
    slope = np.polyfit(late[:, 1], late[:, 2], 1)[0] * 1024
    print(
        f"{given.what}: {n:,} frames in {given.minutes:g} min; {late[0, 2]:.1f} MB after the warm-up, "
        f"{late[-1, 2]:.1f} MB at the end, at most {late[:, 2].max():.1f} MB; {slope:+.3f} kB per frame."
    )


if __name__ == "__main__":
    main()
