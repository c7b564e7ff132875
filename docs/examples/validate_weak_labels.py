"""What weak labels are worth: the tables of docs/weak-labels.md, from melts of known state.

    python docs/examples/validate_weak_labels.py [--data FOLDER] [--output tables.md]

FOLDER holds the trajectories of `phaseseg simulate melt` by these names: large_{3000,4000}K,
small_{3000,4000}K[_s11 ... _s14], control_{8000K,20000K,oxidized_4000K}, coarsening_4000K and
large_dense_4000K (21 frames 0.1 ps apart), each as .dump.gz. Without it the frames that come with
phaseseg are used; tables that need more are left out. Takes about a minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phaseseg import Frame, read_frames
from phaseseg.families.segmentation.fields import BOUNDARY
from phaseseg.families.segmentation.labels.automatic import rule_of
from phaseseg.families.segmentation.labels.density import DensityField, density_field
from phaseseg.families.segmentation.labels.lattice import Lattice
from phaseseg.families.segmentation.labels.threshold import measure_cuts, pooled_threshold
from phaseseg.families.segmentation.labels.weak_labels import label_frame, label_trajectory
from phaseseg.families.segmentation.rules import MIN_CONTRAST, LabelRule

DT = 0.001  # ps per MD step
DT_COARSE = 0.002  # the runs that were made with steps of 2 fs
SIGMAS = ("auto", 1.0, 1.5, 2.0, 2.5)
IRON = ("Fe",)
FRACTIONS = (0.0, 0.02, 0.05, 0.10, 0.20, 0.50, 0.80, 0.95, 0.99, 1.0)


class Data:
    """Trajectories by name: from a folder, else those bundled with phaseseg."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def frames(self, name: str, dt: float = DT) -> Iterator[Frame]:
        if self.folder is not None:
            path = self.folder / f"{name}.dump.gz"
            if path.exists():
                yield from read_frames(path, dt=dt)
            return
        kind, _, rest = name.partition("_")
        bundled = files("phaseseg") / "demo" / f"melt_{kind}_{rest}.dump.gz"
        if bundled.is_file():
            with as_file(bundled) as path:
                yield from read_frames(path, dt=dt)


def row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def header(*cells: str) -> list[str]:
    return [row(*cells), row(*("---" for _ in cells))]


def verdicts(data: Data) -> list[str]:
    """Contrast of the steepest cut in every frame."""
    names = [f"{size}_{t}K" for size in ("large", "small") for t in (3000, 4000)]
    names += [f"small_{t}K_s{seed}" for t in (3000, 4000) for seed in range(11, 15)]
    names += ["coarsening_4000K", "control_8000K", "control_20000K", "control_oxidized_4000K"]
    widths = ("automatic sigma", *(f"sigma {s} Å" for s in SIGMAS[1:]))
    lines = header("melt", "frames", *(f"contrast, {s}" for s in widths), "called two (automatic sigma)")
    for name in names:
        rows = []
        for frame in data.frames(name):
            cells = []
            for sigma in SIGMAS:
                rule = rule_of(frame, LabelRule(IRON, sigma))  # type: ignore[arg-type]
                cuts = measure_cuts(density_field(frame, rule))
                cells.append(cuts.contrast(cuts.steepest))
            rows.append(cells)
        if not rows:
            continue
        values = np.array(rows)
        spans = [
            f"{low:.2f} – {high:.2f}"
            for low, high in zip(values.min(axis=0), values.max(axis=0), strict=True)
        ]
        lines.append(row(name, len(rows), *spans, f"{(values[:, 0] >= MIN_CONTRAST).sum()} of {len(rows)}"))
    return lines


def part(density: DensityField, low: NDArray[np.int64], size: int) -> DensityField:
    """A cube of voxels out of a density, with open ends."""
    n = density.lattice.shape
    picked = np.ix_(*(np.arange(start, start + size) % count for start, count in zip(low, n, strict=True)))
    values = np.ascontiguousarray(density.grid.values[picked])
    lattice = Lattice(
        (size, size, size), density.lattice.steps * size, np.zeros(3), np.zeros(3, bool), np.zeros(3, bool)
    )
    return replace(density, grid=replace(density.grid, values=values), lattice=lattice)


def unbalanced(data: Data, temperature: int, trials: int = 400) -> list[str]:
    """Cuts taken from sub-volumes of a large cell, against the cut of the whole cell."""
    frames = list(data.frames(f"large_{temperature}K"))
    if not frames:
        return []
    density = density_field(frames[-1], LabelRule(IRON, 1.5, 0.7).fixed())
    whole = measure_cuts(density)
    edge = float(np.linalg.norm(density.lattice.steps[0]))
    rng = np.random.default_rng(0)
    # Every fraction is sought until it has enough sub-volumes, or chance has had its time.
    found: list[list[tuple[float, ...]]] = [[] for _ in range(len(FRACTIONS) + 1)]
    for _ in range(40 * trials):
        size = int(rng.uniform(12, 30) / edge)
        low = rng.integers(0, density.lattice.shape)
        piece = part(density, low, size)
        fraction = float((piece.grid.values >= whole.steepest).mean())
        place = int(np.searchsorted(FRACTIONS, fraction, side="right" if fraction > 0 else "left"))
        if fraction == 1.0:
            place = len(FRACTIONS)
        if len(found[place]) >= trials:
            continue
        cuts = measure_cuts(piece)
        values = piece.grid.values
        entry = [
            x
            for cut, reference in ((cuts.two_means, whole.two_means), (cuts.steepest, whole.steepest))
            for x in (float(((values >= cut) != (values >= reference)).mean()), cut / reference)
        ]
        found[place].append((*entry, cuts.contrast(cuts.steepest)))
        if all(len(some) >= trials for some in found):
            break
    lines = header(
        "rich fraction", "sub-volumes", "two-means: voxels differ (cut ratio)",
        "steepest: voxels differ (cut ratio)", "contrast, 5 – 95 %", "called two",
    )  # fmt: skip
    for place, some in enumerate(found):
        if not some:
            continue
        if place == 0:
            name = "0"
        elif place == len(FRACTIONS):
            name = "1"
        else:
            name = f"{FRACTIONS[place - 1]:.2f} – {FRACTIONS[place]:.2f}"
        values = np.array(some)
        middle = np.median(values, axis=0)
        low5, high5 = np.percentile(values[:, 4], (5, 95))
        lines.append(
            row(
                name, len(some), f"{middle[0]:.3f} ({middle[1]:.2f})", f"{middle[2]:.3f} ({middle[3]:.2f})",
                f"{low5:.2f} – {high5:.2f}", f"{(values[:, 4] >= MIN_CONTRAST).mean():.0%}",
            )
        )  # fmt: skip
    return lines


def small_to_large(data: Data) -> list[str]:
    """Pooled cut of the small cells over that of the large ones, and the rich volume fractions."""
    lines = header("T (K)", "sigma (Å)", "cut", "small / large", "rich volume fraction, small", "large")
    for temperature in (3000, 4000):
        names = [f"small_{temperature}K", *(f"small_{temperature}K_s{seed}" for seed in range(11, 15))]
        for sigma in (1.5, 2.0):
            for threshold in ("two-means", "steepest"):
                rule = LabelRule(IRON, sigma, 0.7, threshold=threshold).fixed()  # type: ignore[arg-type]
                small = [frame for name in names for frame in data.frames(name)]
                large = list(data.frames(f"large_{temperature}K"))
                if not small or not large:
                    continue
                cuts = [float(pooled_threshold(frames, rule).threshold) for frames in (small, large)]
                # Fractions with each frame's own cut, as a user gets them.
                fractions = [
                    [label_frame(f, rule)["rich_volume_fraction"] for f in group] for group in (small, large)
                ]
                lines.append(
                    row(
                        temperature, sigma, threshold, f"{cuts[0] / cuts[1]:.3f}",
                        *(f"{np.mean(some):.3f} ± {np.std(some):.3f}" for some in fractions),
                    )
                )  # fmt: skip
    return lines


def scores(reference: NDArray[np.int8], labels: NDArray[np.int8]) -> tuple[float, float]:
    """F1 of the boundary and mean F1 of the three classes."""
    f1 = []
    for phase in (0, 1, 2):
        hits = ((labels == phase) & (reference == phase)).sum()
        f1.append(2 * hits / max((labels == phase).sum() + (reference == phase).sum(), 1))
    return float(f1[BOUNDARY]), float(np.mean(f1))


def three_classes(distance: NDArray[np.float32], width: float) -> NDArray[np.int8]:
    return np.where(np.abs(distance) <= width / 2, BOUNDARY, distance > 0).astype(np.int8)


def noise_ceiling(data: Data) -> list[str]:
    """Labels of the middle frame alone, against those of the density averaged over ±1 ps."""
    frames = list(data.frames("large_dense_4000K", DT_COARSE))
    if not frames:
        return []
    middle = frames[len(frames) // 2]
    assert middle.time is not None
    rule = LabelRule(IRON, 1.5, 0.7).fixed()
    reference = next(
        fields["interface_distance"]
        for frame, fields in label_trajectory(frames, rule, average=1.0)
        if frame.timestep == middle.timestep
    )
    lines = header(
        "label of one frame", "two-class error", "0.68 Å: F1 boundary / macro", "2.7 Å: F1 boundary / macro"
    )
    auto = rule_of(middle, LabelRule(IRON))
    cases = [(f"automatic sigma ({auto.sigma:g} Å)", auto)]
    cases += [(f"sigma {sigma} Å", replace(rule, sigma=sigma)) for sigma in SIGMAS[1:]]
    cases += [("sigma 1.5 Å, at its voxel", replace(rule, at="voxel"))]
    cases += [("sigma 1.5 Å, two-means", replace(rule, threshold="two-means"))]
    for name, one in cases:
        distance = label_frame(middle, one.replace(phases=2))["interface_distance"]
        error = float(((distance > 0) != (reference > 0)).mean())
        pairs = [scores(three_classes(reference, w), three_classes(distance, w)) for w in (0.68, 2.7)]
        lines.append(
            row(name, f"{error:.4f}", *(f"{boundary:.3f} / {macro:.3f}" for boundary, macro in pairs))
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with the trajectories")
    parser.add_argument("--output", type=Path, help="Markdown file to write; printed otherwise")
    arguments = parser.parse_args()
    data = Data(arguments.data)
    sections = {
        "One phase or two": verdicts(data),
        "Unbalanced sub-volumes, 3000 K": unbalanced(data, 3000),
        "Unbalanced sub-volumes, 4000 K": unbalanced(data, 4000),
        "From small to large cells": small_to_large(data),
        "Noise ceiling of one frame, 4000 K": noise_ceiling(data),
    }
    text = (
        "\n\n".join(f"### {title}\n\n" + "\n".join(lines) for title, lines in sections.items() if lines)
        + "\n"
    )
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
