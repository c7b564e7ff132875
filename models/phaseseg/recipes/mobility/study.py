"""Compare ways to predict mobility on the ten systems at T = 0.44, or on own systems at T = 0.64.

    python -m phaseseg.recipes.mobility.study --data FOLDER --work FOLDER --output FOLDER [--temperature 0.64]

Every number is for systems that were not trained on: ridges leave one system out, networks are those of the
step `train`, scored on the systems of the fold that each member has not seen. Correlations are Pearson's
within a system, averaged over systems, for A and B. The ceiling is what a perfect prediction of the
expectation would reach, from the two halves of the runs. Results go to `study-TEMPERATURE.json` after each
part.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg import load_model
from phaseseg.families.mobility.baselines import descriptors_of
from phaseseg.families.mobility.crossvalidation import type_scores
from phaseseg.families.mobility.learner import LearnerConfig
from phaseseg.families.mobility.learner_fit import LearnerTraining, Sample, train_learner
from phaseseg.families.mobility.ridge import RidgeSums, standardized
from phaseseg.families.mobility.scalars import CAGE_SCALARS
from phaseseg.io import atomic_output
from phaseseg.recipes.cards import say
from phaseseg.recipes.mobility.data import FOLDER as OWN_DATA, files_of
from phaseseg.recipes.mobility.samples import CONFIGS, samples_of
from phaseseg.recipes.mobility.systems import SPECIES, System, prepare, read_systems
from phaseseg.recipes.mobility.train import PLANS, TEMPERATURE, TIME

OWN_TEMPERATURE, OWN_TIME = 0.64, 16.5
DRAWS = 4
"""Random choices of training systems for each point of the learning curve and held-out system."""

VARIANTS: Mapping[str, LearnerConfig] = {
    "thermal positions": CONFIGS["ridge-thermal"],
    "inherent positions and the distance to them": replace(
        CONFIGS["ridge-minimized"], scalars=("inherent_displacement",)
    ),
    "inherent positions, all scalars without cage": CONFIGS["ridge-minimized"],
    "mean cage positions, scalars without the energy in the cage": replace(
        CONFIGS["ridge"], positions="cage", scalars=tuple(n for n in CAGE_SCALARS if n != "cage_energy")
    ),
    "mean cage positions, all scalars": replace(CONFIGS["ridge"], positions="cage"),
    "descriptors averaged over cage runs, all scalars": CONFIGS["ridge"],
    "the same, three and six averagings": replace(CONFIGS["ridge"], descriptor_rounds=3, scalar_rounds=6),
}
"""Ridges that are compared."""


def summarized(scores: NDArray[np.float64], systems: Sequence[System]) -> dict[str, Any]:
    """Mean, deviation over systems and mean ratio to the ceiling of (n_systems, 2) correlations."""
    found: dict[str, Any] = {}
    ceilings = np.stack([system.ceiling for system in systems])
    for t, name in enumerate(SPECIES):
        found[name] = float(scores[:, t].mean())
        found[f"± {name}"] = float(scores[:, t].std(ddof=1)) if len(scores) > 1 else None
        found[f"{name} / ceiling"] = float((scores[:, t] / ceilings[:, t]).mean())
    return found


def single_descriptors(systems: Sequence[System], work: Path) -> Iterator[dict[str, Any]]:
    """Absolute correlations of single descriptors."""
    scores: dict[str, list[NDArray[np.float64]]] = {}
    for system, structure in zip(systems, prepare(systems, work), strict=True):
        for name, values in descriptors_of(structure).items():
            own = type_scores(values[:, None], system.propensity[:, None], system.codes)[:, 0]
            scores.setdefault(name, []).append(np.abs(own))
    for name, found in scores.items():
        yield {"method": name, **summarized(np.stack(found), systems)}


def ridge_scores(samples: Sequence[Sample], config: LearnerConfig) -> NDArray[np.float64]:
    """(n_systems, 2) correlations of ridges that leave one system out."""
    trained = train_learner(samples, config, LearnerTraining(folds=len(samples)))
    return trained.scores["ridge"][:, :, 0]


def learning_curve(
    samples: Sequence[Sample], systems: Sequence[System], config: LearnerConfig
) -> Iterator[dict[str, Any]]:
    """Correlations of ridges trained on some of the other systems, drawn at random."""
    codes = [sample.features.codes for sample in samples]
    standard = [standardized(sample.targets, c)[0] for sample, c in zip(samples, codes, strict=True)]
    sums = RidgeSums([sample.features.ridge for sample in samples], standard, codes)
    rng = np.random.default_rng(0)
    n = len(samples)
    for size in sorted({size for size in (1, 2, 4, 6, 9, 15, 20, 30, 39, n - 1) if size < n}):
        scores = []
        for k in range(n):
            others = [other for other in range(n) if other != k]
            own = []
            for _ in range(DRAWS if size < n - 1 else 1):
                ridge = sums.solve(rng.choice(others, size, replace=False).tolist(), config.penalty)
                predicted = ridge(samples[k].features.ridge, codes[k])
                own.append(type_scores(predicted, samples[k].targets, codes[k])[:, 0])
            scores.append(np.mean(own, axis=0))
        yield {"systems": size, **summarized(np.stack(scores), systems)}


def network_rows(systems: Sequence[System], checkpoints: Path) -> Iterator[dict[str, Any]]:
    """Scores of trained checkpoints on the systems that their members were not trained on."""
    for name in PLANS:
        path = checkpoints / f"{name}.validation.npz"
        if not path.is_file():
            continue
        with np.load(path, allow_pickle=False) as file:
            if any(f"blend-{system.name}" not in file for system in systems):
                continue
            scores = np.stack(
                [type_scores(file[f"blend-{s.name}"], s.propensity[:, None], s.codes)[:, 0] for s in systems]
            )
        yield {"method": f"mobility/{name}", **summarized(scores, systems)}


def transfer_rows(systems: Sequence[System], work: Path) -> Iterator[dict[str, Any]]:
    """Scores of the bundled checkpoints, trained at T = 0.44, on systems at another temperature."""
    for name, plan in PLANS.items():
        learner = load_model(f"mobility/{name}").predictor.learner
        found = []
        for sample in samples_of(systems, CONFIGS[plan.learner], work):
            predicted = learner.of_features(sample.features).mean
            found.append(type_scores(predicted, sample.targets, sample.features.codes)[:, 0])
        yield {"method": f"mobility/{name}", **summarized(np.stack(found), systems)}


def study(
    systems: Sequence[System], work: Path, checkpoints: Path, target: Path, *, nets: bool = False
) -> dict[str, Any]:
    """All tables; each part is written to the file when it is done.

    nets : also train networks here, where there are no checkpoints for these systems
    """
    ceilings = np.stack([system.ceiling for system in systems])
    results: dict[str, Any] = {
        "systems": len(systems), "temperature": systems[0].frame.info["temperature"],
        "time": systems[0].frame.info["propensity_time"],
        "ceiling": {name: float(ceilings[:, t].mean()) for t, name in enumerate(SPECIES)},
    }  # fmt: skip

    def keep(name: str, rows: Iterator[dict[str, Any]]) -> None:
        results[name] = []
        for row in rows:
            results[name].append(row)
            with atomic_output(target) as fresh:
                fresh.write_text(json.dumps(results, indent=1), "utf-8")
            short = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
            say(f"{name}: {json.dumps(short)}")

    if results["temperature"] == TEMPERATURE:
        keep("checkpoints", network_rows(systems, checkpoints))
    else:
        keep("transfer", transfer_rows(systems, work))
    keep(
        "ridges",
        ({"method": name, **summarized(ridge_scores(samples_of(systems, config, work), config), systems)}
         for name, config in VARIANTS.items()),
    )  # fmt: skip
    keep("single descriptors", single_descriptors(systems, work))
    ridge = CONFIGS["ridge"]
    keep("learning curve", learning_curve(samples_of(systems, ridge, work), systems, ridge))
    if nets:
        keep("networks", _networks(systems, work))
    return results


def _networks(systems: Sequence[System], work: Path) -> Iterator[dict[str, Any]]:
    for name in ("net", "net-minimized"):
        config = CONFIGS[name]
        trained = train_learner(
            samples_of(systems, config, work), config, LearnerTraining(repeats=1),
            progress=lambda done, text: say(f"{done:.0%}: {text}") if text.endswith("0") else None,
        )  # fmt: skip
        for part, scores in trained.scores.items():
            yield {"method": f"{name}, {part}", **summarized(scores[:, :, 0], systems)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=OWN_DATA)
    parser.add_argument("--work", type=Path, default=Path("build/mobility"))
    parser.add_argument("--output", type=Path, default=Path("mobility-checkpoints"))
    parser.add_argument(
        "--temperature", type=float, default=TEMPERATURE, choices=(TEMPERATURE, OWN_TEMPERATURE)
    )
    parser.add_argument("--nets", action="store_true", help="train networks for systems without checkpoints")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.temperature == OWN_TEMPERATURE:
        paths, time = files_of(options.data), OWN_TIME
    else:
        paths, time = sorted(options.data.glob("config_*.npz")), TIME
    systems = read_systems(paths, options.temperature, time)
    if len(systems) < 2:
        raise SystemExit(
            f"{options.data} holds {len(systems)} systems at this temperature; at least 2 are needed."
        )
    target = options.output / f"study-{options.temperature:g}.json"
    study(systems, options.work, options.output, target, nets=options.nets)
    say(f"written: {target}")


if __name__ == "__main__":
    main()
