"""Compare ways to predict mobility on the systems of one temperature.

    python -m phaseseg.recipes.mobility.study [--temperature 0.64] [--data FOLDER] [--work FOLDER]
        [--output FOLDER] [--parts NAME ...]

Every number is for systems that were not trained on: ridges leave one system out, networks are those of the
step `train`, scored on the systems of the fold that each member has not seen. The part `transfer` has the
scores of the checkpoints of the other temperatures, those in `--output` or else the bundled ones.
Correlations are Pearson's within a system, averaged over systems, for A and B. The ceiling is what a perfect
prediction of the expectation would reach, from the two halves of the runs. Results go to
`study-TEMPERATURE.json` after each part; parts that were measured before stay in the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg import load_model
from phaseseg.checkpoint import SUFFIX, bundled_checkpoints
from phaseseg.families.mobility.baselines import descriptors_of
from phaseseg.families.mobility.crossvalidation import type_scores
from phaseseg.families.mobility.learner import Learner, LearnerConfig
from phaseseg.families.mobility.learner_fit import LearnerTraining, Sample, train_learner
from phaseseg.families.mobility.predictors import Seen
from phaseseg.families.mobility.ridge import RidgeSums, standardized
from phaseseg.io import atomic_output
from phaseseg.recipes.cards import say
from phaseseg.recipes.mobility.samples import CONFIGS, VARIANTS, samples_of
from phaseseg.recipes.mobility.systems import SPECIES, STATES, State, System, prepare, systems_at
from phaseseg.recipes.mobility.train import PLANS, arguments

DRAWS = 4
"""Random choices of training systems for each point of the learning curve and held-out system."""


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


def network_rows(systems: Sequence[System], state: State, checkpoints: Path) -> Iterator[dict[str, Any]]:
    """Scores of trained checkpoints on the systems that their members were not trained on."""
    for name, plan in PLANS.items():
        path = checkpoints / f"{name}.validation.npz"
        if plan.state != state or not path.is_file():
            continue
        with np.load(path, allow_pickle=False) as file:
            if any(f"blend-{system.name}" not in file for system in systems):
                say(f"{name} was trained on other systems and is left out.")
                continue
            scores = np.stack(
                [type_scores(file[f"blend-{s.name}"], s.propensity[:, None], s.codes)[:, 0] for s in systems]
            )
        yield {"method": f"mobility/{name}", **summarized(scores, systems)}


def checkpoint_rows(
    systems: Sequence[System], work: Path, checkpoints: Path, wanted: Callable[[float], bool]
) -> Iterator[dict[str, Any]]:
    """Scores of the checkpoints of some temperatures on systems that none of them was trained on.

    checkpoints : folder in which they are looked for before the bundled ones
    wanted : tells from the temperature of its training whether a checkpoint is scored
    """
    found = {name: str(path) for name, path in bundled_checkpoints("mobility").items()}
    found |= {f"mobility/{p.name.removesuffix(SUFFIX)}": str(p) for p in checkpoints.glob(f"*{SUFFIX}")}
    for name, path in sorted(found.items()):
        model = load_model(path)
        if not wanted(float(model.checkpoint.ranges["temperature"][0])):
            continue
        scores = []
        for system, mean in zip(systems, _predictions(model, systems, work), strict=True):
            scores.append(type_scores(mean[:, None], system.propensity[:, None], system.codes)[:, 0])
        yield {"method": name, **summarized(np.stack(scores), systems)}


def _predictions(model: Any, systems: Sequence[System], work: Path) -> Iterator[NDArray[np.float64]]:
    """The first target for every particle of each system; features are taken from the folder."""
    learner: Learner | None = getattr(model.predictor, "learner", None)
    if learner is not None:
        for sample in samples_of(systems, learner.config, work):
            yield learner.of_features(sample.features).mean[:, 0]
        return
    apply = model.predictor.make("cpu")
    for system in systems:
        yield apply(Seen(system.frame, system.codes), lambda done, text: None).mean[0]


def study(
    systems: Sequence[System], held: Sequence[System], state: State, work: Path, checkpoints: Path,
    target: Path, parts: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """All tables, or those of some parts; each is written to the file when it is done.

    held : systems that no checkpoint of this state was trained on
    """
    ceilings = np.stack([system.ceiling for system in systems])
    about = {
        "systems": len(systems), "temperature": state.temperature, "time": state.time,
        "ceiling": {name: float(ceilings[:, t].mean()) for t, name in enumerate(SPECIES)},
    }  # fmt: skip
    results: dict[str, Any] = json.loads(target.read_text("utf-8")) if target.is_file() else {}
    if results.get("systems") != len(systems):
        results = {}
    results |= about
    at = state.temperature
    ridge = CONFIGS[at]["ridge"]
    tables: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "checkpoints": lambda: network_rows(systems, state, checkpoints),
        "transfer": lambda: checkpoint_rows(systems, work, checkpoints, lambda t: t != at),
        "held": lambda: checkpoint_rows(held, work, checkpoints, lambda t: t == at),
        "ridges": lambda: (
            {"method": name, **summarized(ridge_scores(samples_of(systems, config, work), config), systems)}
            for name, config in VARIANTS.items()
        ),
        "single descriptors": lambda: single_descriptors(systems, work),
        "learning curve": lambda: learning_curve(samples_of(systems, ridge, work), systems, ridge),
    }  # fmt: skip
    for name, rows in tables.items():
        if (parts and name not in parts) or (name == "held" and not held):
            continue
        results[name] = []
        for row in rows():
            results[name].append(row)
            with atomic_output(target) as fresh:
                fresh.write_text(json.dumps(results, indent=1), "utf-8")
            short = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
            say(f"{name}: {json.dumps(short)}")
    return results


PARTS = ("checkpoints", "transfer", "held", "ridges", "single descriptors", "learning curve")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=())
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    state = STATES[options.temperature]
    systems, held = systems_at(state, options.data)
    target = options.output / f"study-{state.temperature:g}.json"
    study(systems, held, state, options.work, options.output, target, options.parts)
    say(f"written: {target}")


if __name__ == "__main__":
    main()
