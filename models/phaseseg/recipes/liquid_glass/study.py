"""Measure the liquid_glass checkpoints: sets, windows, baselines, transfer, temperature, minima, attention.

    python -m phaseseg.recipes.liquid_glass.study --data FOLDER --nets FOLDER [--checkpoint NAME ...]
        [--quick]

`--data` is what the step `data` made, `--nets` what the step `train` made. Networks that are not there are
left out, and the tables say so. All numbers are of runs that no network has learned from. Prints the tables
of the card of each checkpoint; the step `cards` writes them into the checkpoints. About ten minutes on one
core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint import load_checkpoint
from phaseseg.families.liquid_glass.attention import METRICS
from phaseseg.families.liquid_glass.baselines import (
    FIRST_PEAK,
    INHERENT_ENERGY,
    POTENTIAL_ENERGY,
    THREE_METRICS,
    Baseline,
    three_metrics,
)
from phaseseg.families.liquid_glass.evaluation import Logits, StateScores
from phaseseg.families.liquid_glass.model import GlassModel
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.recipes.cards import last, markdown, refuse_training_data, run_name, say, table
from phaseseg.recipes.liquid_glass.data import file_of
from phaseseg.recipes.liquid_glass.datasets import (
    GLASS,
    Configurations,
    GlassSet,
    State,
    read_configurations,
    six_sets,
)
from phaseseg.recipes.liquid_glass.evaluation import (
    EDGE,
    PAPER_CELL,
    BaselineNumbers,
    Curve,
    Evaluator,
    against_edge,
    against_temperature,
    attention_cut,
    attention_numbers,
    attention_tests,
    baseline_numbers,
    logits_of_windows,
    score_baseline,
    score_set,
)
from phaseseg.recipes.liquid_glass.figures import (
    AttentionPicture,
    figure_attention,
    figure_attention_metrics,
    figure_transfer,
)
from phaseseg.recipes.liquid_glass.train import DEVELOPMENT, FAST, SLOW, SPACE_SETS, TEST
from phaseseg.statistics import Bootstrap

SHIPPED = {"dmpnn-v1": "dmpnn", "dmpnn-attention-v1": "attention", "cnn-v1": "cnn", "dmpnn-3d-v1": "3d"}
EDGES = (3.0, 4.5, 6.0, 9.0, 12.0, 18.0)  # σ, of windows in the table of edges
EDGE_SPACE = 6.0  # σ, of windows in three dimensions; the cell has an edge of 9.4 σ
TEMPERATURE_RUNS = range(1, 9)  # slow runs that are written at all temperatures
METRIC_NAMES = dict(zip(METRICS, ("disjoint graphs", "B–B edges", "isolated A"), strict=True))
GLASS_TRANSITION = 0.37
NO_BETTER = (
    "A single number is sufficient: the potential energy and the first peak of g(r) each rank the states of "
    "all sets without error, so no network can do better."
)


Measurements = list[tuple[Baseline, str, BaselineNumbers, BaselineNumbers]]

# ------------------------------------------------------------------------------------------- data


@dataclass
class Data:
    """Where runs and networks lie; what has been read and measured is kept for the next checkpoint.

    folder : of the runs; nets : of the checkpoints of train.py; per : windows of each configuration
    """

    folder: Path
    nets: Path
    per: int
    _kept: dict[Any, Any] = field(default_factory=dict)

    def files(self, part: str, runs: Iterable[int]) -> list[Path]:
        return [path for run in runs if (path := file_of(self.folder, part, run)).is_file()]

    def sets(self, space: bool) -> list[GlassSet]:
        if space:
            return SPACE_SETS
        matched = json.loads((self.nets / "matched.json").read_text("utf-8"))["temperature"]
        return six_sets(SLOW, FAST, matched)

    def configurations(self, space: bool, *, development: bool = False, minimized: bool = False) -> Any:
        key = "configurations", space, development, minimized
        if key not in self._kept:
            states = [state for one in self.sets(space) for state in (one.glass, one.liquid)]
            runs = DEVELOPMENT if development else TEST
            files = [path for part in parts(space) for path in self.files(part, runs[part])]
            self._kept[key] = read_configurations(
                files, states=states, minimized=minimized, energies=not minimized
            )
        return self._kept[key]

    @cached_property
    def cooled(self) -> Configurations:
        """The slow test runs that are written at all temperatures."""
        return read_configurations(self.files("slow", TEMPERATURE_RUNS))

    def network(self, name: str) -> Evaluator | None:
        path = self.nets / f"{name}.safetensors"
        if not path.is_file():
            return None
        checkpoint = load_checkpoint(path)
        space = checkpoint.config["network"]["dimensions"] == 3
        tests = [path for part in parts(space) for path in self.files(part, TEST[part])]
        refuse_training_data(checkpoint, [run_name(path.as_posix()) for path in tests])
        return Evaluator(GlassModel(checkpoint))

    def baselines(self, config: GlassConfig, edge: float, *, minimized: bool = False) -> Measurements:
        """Each with `windows` or `whole`, its numbers for development and for test runs."""
        key = "baselines", config.dimensions, edge, minimized
        if key not in self._kept:
            metrics = replace(THREE_METRICS, numbers=partial(three_metrics, k=config.k))
            own = [POTENTIAL_ENERGY, *([] if minimized else [INHERENT_ENERGY]), FIRST_PEAK, metrics]
            lots = [
                self.configurations(config.dimensions == 3, development=development, minimized=minimized)
                for development in (True, False)
            ]
            small = [baseline_numbers(own, c, config, self.per, edge, s) for s, c in enumerate(lots, start=1)]
            whole = [baseline_numbers(own, c) for c in lots]
            self._kept[key] = [
                (baseline, what, *numbers)
                for baseline in own
                for what, numbers in (("windows", small), ("whole", whole))
            ]
        kept: Measurements = self._kept[key]
        return kept


def scores_of_baselines(numbers: Measurements, one: GlassSet) -> Iterator[tuple[str, Scores]]:
    """Name of each baseline, and its scores on a set for windows and whole configurations."""
    for name in dict.fromkeys(baseline.name for baseline, *_ in numbers):
        yield name, {what: score_baseline(baseline, training, test, one)
                     for baseline, what, training, test in numbers if baseline.name == name}  # fmt: skip


def parts(space: bool) -> tuple[str, ...]:
    return ("ka3d",) if space else ("slow", "fast")


# -------------------------------------------------------------------------------------- measuring

Seen = Mapping[str, Logits]
"""Logits of a network for test configurations: `windows`, `whole` and, on graphs, `particles`."""
Scores = dict[str, StateScores]


def see(network: Evaluator, configurations: Configurations, per: int, edge: float) -> dict[str, Logits]:
    return {
        "windows": logits_of_windows(network, configurations, per, edge=edge),
        "whole": network.whole(configurations),
    }


def scores_of(seen: Seen, configurations: Configurations, one: GlassSet) -> Scores:
    return {what: score_set(logits, configurations, one) for what, logits in seen.items()}


@dataclass(eq=False)
class Measured:
    """Tables of a card, and its figures that show more than the tables."""

    metrics: dict[str, Any] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


def measure(network: Evaluator, data: Data) -> Measured:
    """Everything that the card of a checkpoint says."""
    config = network.config
    space = config.dimensions == 3
    sets, test = data.sets(space), data.configurations(space)
    edge = edge_of(config)
    kind = SHIPPED[last(network.model.name)]
    of_sets = [None if space else data.network(f"set{k + 1}-{kind}") for k in range(len(sets))]
    own = {k: found for k, found in enumerate(of_sets) if found is not None}
    say(f"{network.model.name}: {len(test)} configurations, {len(own)} networks of single sets")
    seen = see(network, test, data.per, edge)
    if config.architecture == "dmpnn":
        seen["particles"] = network.particles(test)
    others = {k: see(one, test, data.per, edge) for k, one in own.items()}
    measured = Measured()
    judged = score_tables(measured, network, seen, others, sets, test, edge)
    baseline_table(measured, judged, data, config, sets, edge)
    if not space:
        transfer_tables(measured, seen, others, sets, test)
        say("sets and baselines")
        if config.architecture == "dmpnn":
            edge_tables(measured, network, sets, test)
            say("edges")
        temperature_table(measured, network, data, sets)
        say("temperatures")
    minimum_table(measured, network, data, sets, edge)
    say("minima")
    if config.attention:
        attention_table(measured, network, data, sets, test)
        say("attention")
    measured.metrics["time"] = timing(network, test)
    return measured


def edge_of(config: GlassConfig) -> float:
    """σ, of the windows of the tables."""
    if config.architecture == "cnn":
        return float(config.image_edge)
    return EDGE_SPACE if config.dimensions == 3 else EDGE


def score_tables(
    measured: Measured, network: Evaluator, seen: Seen, others: Mapping[int, Seen], sets: Sequence[GlassSet],
    test: Configurations, edge: float,
) -> list[tuple[GlassSet, str, Scores]]:  # fmt: skip
    """AUC and accuracy of the shipped networks and of those that have learned from the set alone."""
    judged, rows = [], []
    for k, one in enumerate(sets):
        for label, which in (("all sets", seen), ("this set", others.get(k))):
            if which is None:
                continue
            found = scores_of(which, test, one)
            judged.append((one, label, found))
            row: dict[str, Any] = {"set": one.name, "trained on": label}
            for what, scores in found.items():
                for name, score in (("AUC", scores.auc), ("accuracy", scores.accuracy)):
                    if (what, name) != ("particles", "accuracy"):
                        row[f"{name}, {what}"], row[f"± {name}, {what}"] = score.mean, score.spread
            rows.append(row)
    of_paper = f" (l = {edge / PAPER_CELL:.2g} of the 60 σ of the paper)"
    if network.config.dimensions == 3:
        of_paper = ""
    note = (
        f"Mean and standard deviation over {network.n_members} networks, which were trained on different "
        f"folds of the runs. Windows have an edge of {edge:g} σ{of_paper}, "
        "“whole” refers to whole cells. Accuracy counts a probability above 0.5 as glass."
    )
    if others and len(others) < len(sets):
        note += " Networks of other single sets were not there."
    measured.metrics["sets"] = table("Liquid and glass, individual networks", rows, note)
    return judged


def baseline_table(
    measured: Measured, judged: Sequence[tuple[GlassSet, str, Scores]], data: Data,
    config: GlassConfig, sets: Sequence[GlassSet], edge: float,
) -> None:  # fmt: skip
    """Compare all networks together with methods without a network, on the same test runs."""
    rows = []
    numbers = data.baselines(config, edge)
    perfect = True
    for one in sets:
        for other, label, found in judged:
            if other is one:
                rows.append({"set": one.name, "method": f"networks, {label}"} | both(found))
        for name, found in scores_of_baselines(numbers, one):
            rows.append({"set": one.name, "method": name} | both(found))
            if name in (POTENTIAL_ENERGY.name, FIRST_PEAK.name):
                perfect &= min(scores.auc.value for scores in found.values()) > 0.99995
    measured.metrics["baselines"] = table(
        "Comparison with methods without a network", rows,
        "All networks together; ± from a bootstrap over runs. Energies, g(r) and the three metrics enter "
        "logistic regressions, which were fitted to the training runs of the networks and tested on the "
        f"same test runs. {NO_BETTER if perfect else ''}".strip(),
    )  # fmt: skip
    if perfect:
        measured.limits.append(NO_BETTER)


def both(found: Mapping[str, StateScores]) -> dict[str, float]:
    row = {}
    for what in ("windows", "whole"):
        for name, score in (("AUC", found[what].auc), ("accuracy", found[what].accuracy)):
            row[f"{name}, {what}"], row[f"± {name}, {what}"] = score.value, score.error
    return row


def transfer_tables(
    measured: Measured, seen: Seen, others: Mapping[int, Seen], sets: Sequence[GlassSet], test: Configurations
) -> None:
    """Networks of single sets on windows of all sets."""
    n = len(sets)
    which = [*((str(k + 1), others[k]) for k in sorted(others)), ("all", seen)]
    matrices = {}
    for title, key in (("AUC", "auc"), ("accuracy", "accuracy")):
        scores = [[score_set(s["windows"], test, one) for one in sets] for _, s in which]
        values = np.array([[getattr(one, key).value for one in row] for row in scores])
        matrices[title] = values
        rows = [{"trained on set": name, **{f"on {k + 1}": float(row[k]) for k in range(n)}}
                for (name, _), row in zip(which, values, strict=True)]  # fmt: skip
        missing = "" if len(others) == n else " Sets whose network was not there are left out."
        measured.metrics[f"transfer_{key}"] = table(
            f"Trained on one set, tested on another: {title} of windows", rows,
            f"All networks of a set together. The sets are those above; `all` is this checkpoint.{missing}",
        )  # fmt: skip
    if len(others) == n:
        panels = {"area under the curve": matrices["AUC"][:-1], "accuracy": matrices["accuracy"][:-1]}
        names = [str(k + 1) for k in range(n)]
        measured.figures["transfer"] = lambda: figure_transfer(panels, names, label="AUC, accuracy")


def edge_tables(
    measured: Measured, network: Evaluator, sets: Sequence[GlassSet], test: Configurations
) -> None:
    """AUC against window size."""
    curves = against_edge(network, test, sets, EDGES, particles=1500)
    rows = []
    for k, edge in enumerate((*EDGES, np.inf)):
        row: dict[str, Any] = {"edge (σ)": "whole", "l": 1.0}
        if np.isfinite(edge):
            row = {"edge (σ)": f"{edge:g}", "l": edge / PAPER_CELL}
        for name, curve in curves.items():
            row[name], row[f"± {name}"] = curve[k][1].auc.value, curve[k][1].auc.error
        rows.append(row)
    measured.metrics["edge"] = table(
        "AUC against the edge of windows", rows,
        "All networks together, one column per set; ± from a bootstrap over runs. "
        f"{larger_windows(curves)}",
    )  # fmt: skip


def larger_windows(curves: Mapping[str, Curve]) -> str:
    """What 18 σ instead of 12 σ bring, in one sentence."""
    worst = {
        edge: min((dict(c)[edge].auc.value, name) for name, c in curves.items()) for edge in (12.0, 18.0)
    }
    (small, name), (large, other) = worst[12.0], worst[18.0]
    if small == large == 1:
        return "The AUC is already 1 for every set at l = 0.2, so l = 0.3 cannot improve it."
    return (
        f"From l = 0.2 to 0.3 the lowest AUC goes from {small:.5f} (set {name}) to {large:.5f} (set {other})."
    )


def temperature_table(measured: Measured, network: Evaluator, data: Data, sets: Sequence[GlassSet]) -> None:
    """Probability of glass against temperature."""
    rows = against_temperature(network, data.cooled)
    temperatures = sorted({row["temperature"] for row in rows}, reverse=True)
    lines = []
    for t in temperatures:
        at = [row for row in rows if row["temperature"] == t]
        line: dict[str, Any] = {"temperature": t, "runs": len(at)}
        for key, title in (("probability", "cell"), ("particles", "mean of particles")):
            if key in at[0]:
                values = [row[key] for row in at]
                line[title] = float(np.mean(values))
                line[f"± {title}"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        lines.append(line)
    crossing = crossing_of([(line["temperature"], line["cell"]) for line in lines])
    words = "The mean over runs does not cross 0.5 exactly once."
    if crossing:
        words = f"The mean over runs crosses 0.5 at T = {crossing:.2f}."
    measured.metrics["temperature"] = table(
        "Probability of glass against temperature", lines,
        "Whole cells of slowly cooled test runs; ± over the runs. In training, only "
        f"T = {GLASS:g} is glass. "
        f"{words}",
    )  # fmt: skip
    coldest = min(one.liquid.temperature for one in sets)
    if crossing:
        side = "below" if crossing < GLASS_TRANSITION else "above"
        measured.limits.append(
            f"Trained with T = {GLASS:g} as glass and T ≥ {coldest:g} as liquid, the network must place the "
            f"decision boundary somewhere in between: the probability crosses 0.5 at T = {crossing:.2f}, "
            f"{side} T_g = {GLASS_TRANSITION:g}, where the slope of the energy changes. The network measures "
            "how much particles vibrate, not the glass transition. Do not use it to determine T_g."
        )


def crossing_of(points: Sequence[tuple[float, float]]) -> float | None:
    """The temperature at which the probability crosses 0.5, along ln T; None unless it does once."""
    t, p = np.log([a for a, _ in points]), np.array([b for _, b in points]) - 0.5
    signs = np.flatnonzero((p[1:] > 0) != (p[:-1] > 0))
    if len(signs) != 1:
        return None
    k = int(signs[0])
    return float(np.exp(t[k] + (t[k + 1] - t[k]) * p[k] / (p[k] - p[k + 1])))


def minimum_table(
    measured: Measured, network: Evaluator, data: Data, sets: Sequence[GlassSet], edge: float
) -> None:
    """What is left when vibration is taken away: minima of the energy."""
    config = network.config
    space = config.dimensions == 3
    tests = data.configurations(space, minimized=True)
    thermal = see(network, tests, data.per, edge)
    numbers = data.baselines(config, edge, minimized=True)
    rows, n_networks = [], 0
    for k, one in enumerate(sets):
        found = both(scores_of(thermal, tests, one))
        rows.append({"set": one.name, "method": "this checkpoint, not trained on minima"} | found)
        trained = None if space else data.network(f"minimum{k + 1}-dmpnn")
        if trained is not None and config.architecture == "dmpnn" and not config.attention:
            states = tests.of(one.glass, one.liquid)
            found = both(scores_of(see(trained, states, data.per, edge), states, one))
            rows.append({"set": one.name, "method": "networks trained on minima of the set"} | found)
            n_networks += 1
        for name, scores in scores_of_baselines(numbers, one):
            method = "inherent energy" if name == POTENTIAL_ENERGY.name else name
            rows.append({"set": one.name, "method": method} | both(scores))
    note = "The same configurations after energy minimization; ± from a bootstrap over runs."
    if not n_networks and not space:
        note += " For networks trained on minima, see dmpnn-v1."
    elif 0 < n_networks < len(sets):
        note += f" Networks trained on minima were available for {n_networks} of {len(sets)} sets."
    measured.metrics["minima"] = table("On minima of the energy", rows, note)
    calls = float(np.mean(thermal["whole"].logit > 0))
    measured.metrics["minima_called_glass"] = calls
    if not 0.05 < calls < 0.95:
        side = "glass" if calls > 0.5 else "liquid"
        measured.limits.append(
            f"The network relies on thermal vibrations: it classifies {max(calls, 1 - calls):.0%} of the "
            f"energy-minimized configurations, liquid or glass, as {side}. Do not minimize the energy before "
            "a prediction."
        )


def attention_table(
    measured: Measured, network: Evaluator, data: Data, sets: Sequence[GlassSet], test: Configurations
) -> None:
    """Metrics of attention graphs of liquid against glass."""
    cut = network.model.checkpoint.config.get("attention_threshold")
    where = "that was determined on development runs and is stored in the checkpoint"
    if cut is None:
        known = data.configurations(False, development=True)
        cut, _ = attention_cut(network, known.take(list(range(0, len(known), 3))))
        where = "that was determined on development runs"
    found = attention_numbers(network, test, float(cut))

    def of(state: State, name: str) -> NDArray[np.float64]:
        return found[name][[state.holds(frame) for frame in test.frames]]

    rows = []
    for one in sets:
        for row in attention_tests(found, test, one):
            new: dict[str, Any] = {"set": one.name, "metric": METRIC_NAMES[row["metric"]]}
            for side, state in (("liquid", one.liquid), ("glass", one.glass)):
                new[side] = row[side]
                new[f"± {side}"] = error_of_mean(of(state, row["metric"]))
            rows.append(new | {"p": row["p"], "p of pairs": row.get("p of pairs")})
    kept = {
        state.temperature: float(np.mean(of(state, "kept")))
        for one in sets
        for state in (one.glass, one.liquid)
    }
    share = ", ".join(f"{v:.2f} at T = {t:g}" for t, v in sorted(kept.items()))
    measured.metrics["attention"] = table(
        "Attention graphs of liquid and glass", rows,
        f"Edges with an attention of at least {cut:.4g}, a single value for all configurations {where}; ± "
        "from a bootstrap over runs. The p values are those of one-sided Wilcoxon tests that the glass has "
        "fewer: rank sums, and signed ranks that pair the liquid and the glass of each run (at least 3e-4 "
        f"for 15 runs with ties). Fraction of edges kept: {share}.",
    )  # fmt: skip
    measured.limits.append(attention_limit(rows))
    states = [*dict.fromkeys(one.liquid for one in sets[:5]), sets[0].glass]
    numbers = {f"T = {state.temperature:g}": {name: of(state, name) for name in METRICS} for state in states}
    measured.figures["attention-metrics"] = lambda: figure_attention_metrics(numbers, titles=METRIC_NAMES)
    pictures = []
    for state in (sets[4].liquid, sets[0].glass):
        frame = test.of(state).frames[0]
        is_b = network.config.codes_of(frame) == 1
        pictures.append(
            AttentionPicture(f"T = {state.temperature:g}", frame, is_b, network.attention(frame), float(cut))
        )
    measured.figures["attention"] = lambda: figure_attention(pictures)


def attention_limit(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say which counts are lower in the glass and which are not, and that this is not a mechanism."""
    words = []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        own = [row for row in rows if row["metric"] == metric]
        less = sum(row["p"] < 1e-4 for row in own)
        more = sum(row["glass"] > row["liquid"] for row in own)
        words.append(
            f"{metric}: fewer in the glass with p < 1e-4 in {less} of {len(own)} sets, more in {more}"
        )
    return (
        "Attention shows what the network relies on, not what makes a glass. With a single threshold, colder "
        "configurations keep fewer edges, so the counts change for that reason alone ("
        + "; ".join(words)
        + "). Energies and g(r) differ just as clearly."
    )


def error_of_mean(values: NDArray[np.float64]) -> float | None:
    """Standard deviation of the mean over runs drawn with replacement."""
    drawn = Bootstrap(len(values), 2000).counts
    return float((drawn @ values / len(values)).std()) if len(drawn) else None


def timing(network: Evaluator, test: Configurations) -> dict[str, Any]:
    """Seconds for whole cells, on the machine that makes the card."""
    few = test.take([0])
    times = []
    for _ in range(4):
        start = perf_counter()
        network.whole(few)
        times.append(perf_counter() - start)
    n = few.frames[0].n_atoms
    rows = [{"what": f"{network.n_members} networks", "particles": n, "s": min(times),
             "s for a million particles": 1e6 * min(times) / n}]  # fmt: skip
    return table(
        "Time for a whole cell",
        rows,
        "One core, minimum of four measurements, including the neighbor search.",
    )


# -------------------------------------------------------------------------------------------- run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("liquid-glass-data"))
    parser.add_argument("--nets", type=Path, default=Path("liquid-glass-checkpoints"))
    parser.add_argument("--checkpoint", nargs="+", metavar="NAME", default=list(SHIPPED))
    parser.add_argument("--quick", action="store_true", help="fewer windows: to try the command")
    options = parser.parse_args()
    data = Data(options.data, options.nets, 4 if options.quick else 10)
    for name in options.checkpoint:
        network = data.network(last(name))
        if network is None:
            raise SystemExit(f"{name} is not in {options.nets}.")
        print("\n".join(markdown(measure(network, data).metrics, name, 1)), flush=True)


if __name__ == "__main__":
    main()
