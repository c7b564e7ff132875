"""Training samples of segmentation networks: runs with labels, features and neighbors. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.display import option
from phaseseg.families.segmentation.fields import RICH
from phaseseg.families.segmentation.labels.density import density_field
from phaseseg.families.segmentation.labels.threshold import measure_cuts
from phaseseg.families.segmentation.labels.weak_labels import label_frame
from phaseseg.families.segmentation.node_features import node_features
from phaseseg.families.segmentation.rules import MIN_CONTRAST, FixedRule
from phaseseg.families.segmentation.settings import NetworkConfig
from phaseseg.frame import Frame
from phaseseg.neighbors import neighbor_graph
from phaseseg.specs import Progress
from phaseseg.training.files import ArrayCache
from phaseseg.training.runs import Run, RunData, listed, read_runs, split_by_time, validation_runs
from phaseseg.version import __version__

_LABEL_FORMAT = "1"  # of the cache; increase it when the same rule gives different labels


@dataclass(frozen=True, eq=False)
class Sample:
    """Training sample from one frame.

    indptr, neighbors : neighbors within the cutoff, as in `Graph`; features : (n_atoms, F) raw float32
    distance : (n_atoms,) float32, Å, positive on the rich side; +-infinity in a single-phase frame
    number_density : atoms per Å^3; digest : digest of the frame
    """

    indptr: NDArray[np.int64]
    neighbors: NDArray[np.int32]
    features: NDArray[np.float32]
    distance: NDArray[np.float32]
    number_density: float
    digest: str

    @property
    def two_phases(self) -> bool:
        return bool(len(self.distance) and np.isfinite(self.distance[0]))


def learnable_runs(data: RunData | Iterable[RunData], **options: Any) -> list[Run]:
    """Read all runs with the options of `read_runs`; raise ValueError for a run without frames."""
    runs = read_runs(data, **options)
    for run in runs:
        if not run.frames:
            raise ValueError(f"{run.name}: there are no frames to learn from.")
    return runs


def check_species(runs: Sequence[Run], target: Sequence[str]) -> None:
    """Raise ValueError for mixed units, and for a run without one of the target species."""
    first, units = runs[0], runs[0].frames[0].units
    for run in runs:
        for frame in run.frames:
            if frame.units != units:
                raise ValueError(
                    f"{run.name} has {frame.units!r} units, but {first.name} has {units!r} units; train on "
                    "files with the same units."
                )
        present = _present([run])
        missing = [name for name in target if name not in present]
        if missing:
            others = option("species", keyword="species= of the rule")
            raise ValueError(
                f"{run.name}: there is no {missing[0]}, the species chosen for the rich phase; the file has "
                f"{', '.join(sorted(present))}. Choose others with {others}, or leave out the file."
            )


def species_of(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return all species that occur, in the order of the files."""
    present = _present(runs)
    first = (name for run in runs for name in run.frames[0].species_names if name in present)
    return tuple(dict.fromkeys([*first, *present]))


def _present(runs: Iterable[Run]) -> dict[str, None]:
    frames = (frame for run in runs for frame in run.frames)
    return dict.fromkeys(frame.species_names[k] for frame in frames for k in np.unique(frame.species))


def is_two_phases(frame: Frame, rule: FixedRule) -> bool:
    """Whether the contrast of a frame indicates two phases."""
    cuts = measure_cuts(density_field(frame, rule))
    return cuts.contrast(cuts.choose(rule)) >= MIN_CONTRAST


def label_distance(frame: Frame, rule: FixedRule) -> NDArray[np.float32]:
    """Return the signed distance to the interface, (n_atoms,), Å; infinite in a single-phase frame."""
    fields = label_frame(frame, rule)
    if fields["n_phases"] == 2:
        return np.array(fields["interface_distance"], dtype=np.float32)
    side = np.inf if frame.n_atoms and fields["phase"][0] == RICH else -np.inf
    return np.full(frame.n_atoms, side, dtype=np.float32)


def split_runs(runs: Sequence[Run], rule: FixedRule) -> tuple[list[Run], list[Run], str]:
    """Split runs into training and validation data; also return a sentence that describes the split."""
    two = [run for run in runs if any(is_two_phases(frame, rule) for frame in run.frames)]
    if not two:
        raise ValueError(
            f"{listed(runs)}: no frame contains two phases, so there is no interface to learn. Add "
            "frames of two separated liquids, or inspect the frames with `phaseseg label`."
        )
    one = [run for run in runs if run not in two]
    if len(two) >= 3:
        held = [two[k] for k in validation_runs(len(two))]
        if len(one) >= 3:
            held += [one[k] for k in validation_runs(len(one))]
        sentence = f"by run: {len(held)} of {len(runs)} files for validation ({listed(held)})"
        return [run for run in runs if run not in held], held, sentence
    if all(len(run.frames) == 1 for run in two):
        raise ValueError(
            f"{listed(two)}: {'one frame' if len(two) == 1 else 'one frame each'} with two phases is not "
            "enough for both training and validation. Give more frames, or other files with "
            f"{option('validation')}."
        )
    return *split_by_time(runs), "by time: the last fifth of each file for validation"


def samples_of(
    runs: Sequence[Run], rule: FixedRule, config: NetworkConfig, cache: ArrayCache, note: Progress, what: str
) -> list[list[Sample]]:
    """Prepare the samples of each run, using cached labels if available.

    what : name of the runs in progress messages
    """
    total, done = sum(len(run.frames) for run in runs), count()

    def sample(frame: Frame, digest: str) -> Sample:
        note(0.0, f"labels and graphs of the {what} frames: {next(done)} of {total}")
        codes = config.codes_of(frame, "the network, whose species are those of the training data,")
        graph = neighbor_graph(frame, cutoff=config.cutoff)
        key = [digest, rule.to_dict(), __version__, _LABEL_FORMAT]
        distance = cache.array(key, partial(label_distance, frame, rule), (frame.n_atoms,))
        features = node_features(frame, codes, config)
        density = frame.n_atoms / frame.volume
        return Sample(graph.indptr, graph.neighbors, features, distance, density, digest)

    return [list(map(sample, run.frames, run.digests)) for run in runs]
