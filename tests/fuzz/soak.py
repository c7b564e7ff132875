"""Memory over time: `cd tests && python -m fuzz.soak --what label --minutes 60`.

A bundled run is read again and again, and the frames are summarized as on the command line. Every few seconds
the memory of the process is sampled; a line is printed every minute. After a warm-up of a fifth of the time
the memory must stay constant.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from importlib.resources import files
from itertools import cycle
from pathlib import Path

import numpy as np

from phaseseg import Frame
from phaseseg.families import Family

PATH = str(files("phaseseg") / "demo" / "melt_small_3000K.dump.gz")
GLASS = str(files("phaseseg") / "demo" / "glass_ka2d_s901.xyz.gz")


def _again(path: str) -> Iterator[Frame]:
    """Read a file again and again, one frame at a time."""
    from phaseseg.io import read_frames

    while True:
        yield from read_frames(path)


def _label() -> Iterator[None]:
    """As `phaseseg label`, with the summary of all frames."""
    from phaseseg.families.segmentation.labels.automatic import rule_for
    from phaseseg.families.segmentation.labels.weak_labels import label_trajectory
    from phaseseg.families.segmentation.report import RunSummary
    from phaseseg.families.segmentation.rules import LabelRule

    rule, frames = rule_for(_again(PATH), LabelRule())
    summary = RunSummary(rule, "run", scan=True)
    for pair in label_trajectory(frames, rule):
        summary.add(*pair)
        yield


def _predict() -> Iterator[None]:
    """As `phaseseg predict` with a network of each family, one after the other."""
    from phaseseg.api import load_model, predictor
    from phaseseg.families import DEFAULT, FAMILIES, load
    from phaseseg.terminal.run import in_order

    def results(family: Family, path: str) -> Iterator[None]:
        model = load_model(family.default)
        rule = model.rule()
        summary = load(family.summary or "phaseseg.summary:FrameSummary")(rule, "run")
        for pair in in_order(predictor(model, rule), _again(path)):
            summary.add(*pair)
            yield

    others = [
        results(family, GLASS) for name, family in FAMILIES.items() if name != DEFAULT and family.default
    ]
    for steps in zip(results(FAMILIES[DEFAULT], PATH), *others, strict=True):
        yield from steps


def _metrics() -> Iterator[None]:
    """As `phaseseg metrics`, with the table of all frames."""
    from phaseseg.families.liquid_glass.commands import MetricRows, count_frame, counted_frames

    rows = MetricRows("temperature")
    count = partial(count_frame, b=("B",), k=2, rule="all")
    for row in counted_frames({"run": lambda: _again(GLASS)}, count, workers=1):
        rows.add(row)
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


WORK = {"label": _label, "predict": _predict, "metrics": _metrics, "ovito": _ovito}


def megabytes() -> float:
    """Resident memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


Sample = tuple[float, int, float]
"""Seconds, frames and megabytes."""


def soak(what: str, seconds: float, every: float = 2.0) -> Iterator[Sample]:
    """Yield a sample every few seconds, and one at the end."""
    begin = time.monotonic()
    n_samples = 0
    for n, _ in enumerate(WORK[what](), start=1):
        now = time.monotonic() - begin
        if now >= n_samples * every or now >= seconds:
            n_samples += 1
            yield now, n, megabytes()
        if now >= seconds:
            break


def verdict(samples: list[Sample]) -> str:
    """Describe the memory after a warm-up of a fifth of the time."""
    rows = np.array(samples)
    late = rows[rows[:, 0] >= rows[-1, 0] / 5]
    slope = np.polyfit(late[:, 1], late[:, 2], 1)[0] * 1024 if len(late) > 1 else np.nan
    return (
        f"{int(rows[-1, 1]):,} frames in {rows[-1, 0] / 60:.1f} min; {late[0, 2]:.1f} MB after the warm-up, "
        f"{late[-1, 2]:.1f} MB now, at most {late[:, 2].max():.1f} MB; {slope:+.3f} kB per frame."
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fuzz.soak", description=__doc__)
    parser.add_argument("--what", choices=WORK, default="label")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--output", type=Path, help="table of the samples, written as they are taken (.csv)")
    given = parser.parse_args()
    samples: list[Sample] = []
    with given.output.open("w") if given.output else nullcontext() as file:
        for sample in soak(given.what, 60 * given.minutes):
            samples.append(sample)
            if file:
                print(*sample, sep=",", file=file, flush=True)
            if sample[0] // 60 > (samples[-2:][0][0]) // 60:
                print(f"{given.what}: {verdict(samples)}", flush=True)
    print(f"{given.what}: {verdict(samples)}")


if __name__ == "__main__":
    main()
