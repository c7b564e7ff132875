"""Measure the liquid_glass checkpoints, write their cards into them, and render the pages.

    python models/phaseseg/recipes/liquid_glass/cards.py --data FOLDER --nets FOLDER [--checkpoint NAME ...]
        [--output FOLDER] [--quick] [--render-only]

`--data` is what data.py made, `--nets` what train.py made. Of that, `dmpnn-v1`, `dmpnn-attention-v1`,
`cnn-v1` and `dmpnn-3d-v1` get their cards and are put into `--output`, by default the folder of those that
come with phaseseg; the others are for comparison. Networks that are not there are left out and said. All
numbers are of runs that no network has learned from. Pages: the table of models/README.md and
docs/checkpoints/. On one core some ten minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from train import DEVELOPMENT, FAST, SLOW, SPACE, SPACE_LIQUIDS, TEST, file_of

from phaseseg.checkpoint import Checkpoint, bundled_checkpoints, load_checkpoint
from phaseseg.families.liquid_glass.attention import METRICS
from phaseseg.families.liquid_glass.baselines import (
    FIRST_PEAK,
    INHERENT_ENERGY,
    POTENTIAL_ENERGY,
    THREE_METRICS,
    Baseline,
    three_metrics,
)
from phaseseg.families.liquid_glass.evaluation import (
    EDGE,
    PAPER_CELL,
    BaselineNumbers,
    Curve,
    Judge,
    Judgement,
    Scores,
    against_edge,
    against_temperature,
    attention_cut,
    attention_numbers,
    attention_tests,
    judge_baseline,
    judge_set,
    scores_of_windows,
)
from phaseseg.families.liquid_glass.evaluation_figures import (
    AttentionPicture,
    figure_against_edge,
    figure_attention,
    figure_attention_metrics,
    figure_temperature,
    figure_transfer,
)
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.recipes.cards import (
    cell,
    markdown,
    markdown_table,
    put_figure,
    put_index,
    put_text,
    replace_block,
    table,
    write_card,
)
from phaseseg.recipes.liquid_glass.datasets import (
    GLASS,
    Configurations,
    GlassSet,
    State,
    read_configurations,
    six_sets,
)
from phaseseg.statistics import Bootstrap
from phaseseg.version import __version__

ROOT = Path(__file__).resolve().parents[3]
BUNDLED = ROOT / "models" / "phaseseg" / "families" / "liquid_glass" / "checkpoints"
SHIPPED = {"dmpnn-v1": "dmpnn", "dmpnn-attention-v1": "attention", "cnn-v1": "cnn", "dmpnn-3d-v1": "3d"}
EDGES = (3.0, 4.5, 6.0, 9.0, 12.0, 18.0)  # σ, of windows in the table of edges
EDGE_SPACE = 6.0  # σ, of windows in three dimensions; the cell has an edge of 9.4 σ
TEMPERATURE_RUNS = range(1, 9)  # slow runs that are written at all temperatures
METRIC_NAMES = dict(zip(METRICS, ("disjoint graphs", "B–B edges", "isolated A"), strict=True))
GLASS_TRANSITION = 0.37
PAPER = (
    "K. Swanson, S. Trivedi, J. Lequieu, K. Swanson, R. Kondor, Deep learning for automated classification "
    "and characterization of amorphous materials, Soft Matter 2020, DOI 10.48550/arXiv.1909.04648"
)
NO_BETTER = (
    "One number is enough: the potential energy and the first peak of g(r) each tell the states of all sets "
    "apart without an error in rank, so no network can be better, only as good."
)


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
            return [GlassSet(f"T = {t:g}", State(SPACE, GLASS), State(SPACE, t)) for t in SPACE_LIQUIDS]
        matched = json.loads((self.nets / "matched.json").read_text("utf-8"))["temperature"]
        return six_sets(SLOW, FAST, matched)

    def tests(self, space: bool) -> list[Path]:
        """Files of the runs that are tested on."""
        return [path for part in parts(space) for path in self.files(part, TEST[part])]

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

    def cooled(self) -> Configurations:
        """The slow test runs that are written at all temperatures."""
        if "cooled" not in self._kept:
            self._kept["cooled"] = read_configurations(self.files("slow", TEMPERATURE_RUNS))
        cooled: Configurations = self._kept["cooled"]
        return cooled

    def network(self, name: str) -> Judge | None:
        path = self.nets / f"{name}.safetensors"
        if not path.is_file():
            return None
        checkpoint = load_checkpoint(path)
        refuse_training_runs(checkpoint, self.tests(checkpoint.config["network"]["dimensions"] == 3))
        return Judge(checkpoint)

    def baselines(self, config: GlassConfig, edge: float) -> list[tuple[Baseline, str, BaselineNumbers, Any]]:
        """Each with `windows` or `whole`, its numbers for development and for test runs."""
        key = "baselines", config.dimensions, edge
        if key not in self._kept:
            space = config.dimensions == 3
            own = [POTENTIAL_ENERGY, INHERENT_ENERGY, FIRST_PEAK, metrics_of(config)]
            found = []
            lots = [self.configurations(space, development=d) for d in (True, False)]
            small = [BaselineNumbers.of_windows(c, own, config, self.per, edge=edge, seed=s)
                     for s, c in enumerate(lots, start=1)]  # fmt: skip
            whole = [BaselineNumbers.of_whole(c, own) for c in lots]
            for baseline in own:
                found += [(baseline, "windows", *small), (baseline, "whole", *whole)]
            self._kept[key] = found
        kept: list[tuple[Baseline, str, BaselineNumbers, Any]] = self._kept[key]
        return kept


def parts(space: bool) -> tuple[str, ...]:
    return ("ka3d",) if space else ("slow", "fast")


def metrics_of(config: GlassConfig) -> Baseline:
    return Baseline(THREE_METRICS.name, partial(three_metrics, k=config.k))


def refuse_training_runs(checkpoint: Checkpoint, tests: Sequence[Path]) -> None:
    """No run may be learned from and tested on, thermal or minimized.

    Raises
    ------
    SystemExit
        If one is.
    """
    files = checkpoint.card.get("data", {}).get("files", {})
    used = {run_name(str(row[0])) for row in files.get("rows", [])}
    if both := used & {run_name(f"{path.parent.name}/{path.name}") for path in tests}:
        raise SystemExit(f"{checkpoint.name} has learned from {', '.join(sorted(both))}; test on other runs.")


def run_name(path: str) -> str:
    """`slow/ka2d_s016` for `slow/ka2d_s016.inherent.xyz.gz`."""
    folder, _, name = path.rpartition("/")
    return f"{folder.rpartition('/')[2]}/{name.partition('.')[0]}"


# -------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network says of the test configurations: `windows`, `whole` and, on graphs, `particles`."""

    scores: Mapping[str, Scores]

    def judge(self, what: str, configurations: Configurations, one: GlassSet) -> Judgement:
        return judge_set(self.scores[what], configurations, one)


def see(network: Judge, configurations: Configurations, per: int, edge: float, particles: bool) -> Seen:
    scores = {
        "windows": scores_of_windows(network, configurations, per, edge=edge),
        "whole": network.whole(configurations),
    }
    if particles and network.config.architecture == "dmpnn":
        scores["particles"] = network.particles(configurations)
    return Seen(scores)


@dataclass(eq=False)
class Measured:
    """Tables of a card, and what its figures show."""

    metrics: dict[str, Any] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


def measure(network: Judge, data: Data) -> Measured:
    """Everything that a card tells about a checkpoint."""
    config = network.config
    space = config.dimensions == 3
    sets, test = data.sets(space), data.configurations(space)
    edge = edge_of(config)
    kind = SHIPPED[last(network.name)]
    beside = [None if space else data.network(f"set{k + 1}-{kind}") for k in range(len(sets))]
    own = {k: found for k, found in enumerate(beside) if found is not None}
    say(f"{network.name}: {len(test)} configurations, {len(own)} networks of single sets")
    seen = see(network, test, data.per, edge, True)
    others = {k: see(one, test, data.per, edge, False) for k, one in own.items()}
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
    measured: Measured, network: Judge, seen: Seen, others: Mapping[int, Seen], sets: Sequence[GlassSet],
    test: Configurations, edge: float,
) -> list[tuple[GlassSet, str, dict[str, Judgement]]]:  # fmt: skip
    """AUC and accuracy of the shipped networks and of those that have learned from the set alone."""
    judged, rows = [], []
    for k, one in enumerate(sets):
        for label, which in (("all sets", seen), ("this set", others.get(k))):
            if which is None:
                continue
            found = {what: which.judge(what, test, one) for what in which.scores}
            judged.append((one, label, found))
            row: dict[str, Any] = {"set": one.name, "trained on": label}
            for what in ("windows", "whole"):
                row[f"AUC, {what}"] = found[what].auc_mean
                row[f"± AUC, {what}"] = found[what].auc_spread
                row[f"accuracy, {what}"] = found[what].accuracy_mean
                row[f"± accuracy, {what}"] = found[what].accuracy_spread
            if "particles" in found:
                row["AUC, particles"] = found["particles"].auc_mean
                row["± AUC, particles"] = found["particles"].auc_spread
            rows.append(row)
    note = (
        f"Mean and standard deviation of {network.n_members} networks, each alone; they have learned from "
        f"different folds of runs. Windows have an edge of {edge:g} σ{paper_words(edge, network.config)}, "
        "whole: of whole cells. Accuracy: glass above a probability of 0.5."
    )
    if others and len(others) < len(sets):
        note += " Networks of other single sets were not there."
    measured.metrics["sets"] = table("Liquid against glass, each network alone", rows, note)
    return judged


def paper_words(edge: float, config: GlassConfig) -> str:
    return "" if config.dimensions == 3 else f" (l = {edge / PAPER_CELL:.2g} of the 60 σ of the paper)"


def baseline_table(
    measured: Measured, judged: Sequence[tuple[GlassSet, str, dict[str, Judgement]]], data: Data,
    config: GlassConfig, sets: Sequence[GlassSet], edge: float,
) -> None:  # fmt: skip
    """All networks together beside methods without a network, on the same test runs."""
    rows = []
    numbers = data.baselines(config, edge)
    perfect = True
    for one in sets:
        for other, label, found in judged:
            if other is one:
                rows.append({"set": one.name, "method": f"networks, {label}"} | both(found))
        for name in dict.fromkeys(baseline.name for baseline, *_ in numbers):
            found = {what: judge_baseline(baseline, training, test, one)
                     for baseline, what, training, test in numbers if baseline.name == name}  # fmt: skip
            rows.append({"set": one.name, "method": name} | both(found))
            if name in (POTENTIAL_ENERGY.name, FIRST_PEAK.name):
                perfect &= min(judgement.auc for judgement in found.values()) > 0.99995
    measured.metrics["baselines"] = table(
        "Beside methods without a network", rows,
        "All networks together; ± from runs drawn with replacement. Energies, g(r) and the three metrics in "
        "logistic regressions, fitted to the runs that the networks have learned from, on the same test "
        f"runs. {NO_BETTER if perfect else ''}".strip(),
    )  # fmt: skip
    if perfect:
        measured.limits.append(NO_BETTER)


def both(found: Mapping[str, Judgement]) -> dict[str, float]:
    row = {}
    for what in ("windows", "whole"):
        row[f"AUC, {what}"], row[f"± AUC, {what}"] = found[what].auc, found[what].auc_error
        row[f"accuracy, {what}"] = found[what].accuracy
        row[f"± accuracy, {what}"] = found[what].accuracy_error
    return row


def transfer_tables(
    measured: Measured, seen: Seen, others: Mapping[int, Seen], sets: Sequence[GlassSet], test: Configurations
) -> None:
    """Networks of single sets on windows of all sets."""
    n = len(sets)
    which = [*((str(k + 1), others[k]) for k in sorted(others)), ("all", seen)]
    matrices = {}
    for title, key in (("AUC", "auc"), ("accuracy", "accuracy")):
        values = np.array([[getattr(s.judge("windows", test, one), key) for one in sets] for _, s in which])
        matrices[title] = values
        rows = [{"trained on set": name, **{f"on {k + 1}": float(row[k]) for k in range(n)}}
                for (name, _), row in zip(which, values, strict=True)]  # fmt: skip
        missing = "" if len(others) == n else " Sets whose network was not there are left out."
        measured.metrics[f"transfer_{key}"] = table(
            f"Trained on one set, tested on another: {title} of windows", rows,
            f"All networks of a set together; sets as above, `all` is this checkpoint.{missing}",
        )  # fmt: skip
    if len(others) == n:
        panels = {"area under the curve": matrices["AUC"][:-1], "accuracy": matrices["accuracy"][:-1]}
        names = [str(k + 1) for k in range(n)]
        measured.figures["transfer"] = lambda: figure_transfer(panels, names, label="AUC, accuracy")


def edge_tables(measured: Measured, network: Judge, sets: Sequence[GlassSet], test: Configurations) -> None:
    """AUC against the edge of windows."""
    curves = against_edge(network, test, sets, EDGES, particles=1500)
    rows = []
    for k, edge in enumerate((*EDGES, np.inf)):
        row: dict[str, Any] = {"edge (σ)": "whole", "l": 1.0}
        if np.isfinite(edge):
            row = {"edge (σ)": f"{edge:g}", "l": edge / PAPER_CELL}
        for name, curve in curves.items():
            row[name], row[f"± {name}"] = curve[k][1].auc, curve[k][1].auc_error
        rows.append(row)
    measured.metrics["edge"] = table(
        "AUC against the edge of windows", rows,
        f"All networks together, sets side by side. ± from runs drawn with replacement. "
        f"{larger_windows(curves)}",
    )  # fmt: skip
    low, high = network.config.window
    measured.figures["edge"] = lambda: figure_against_edge({"": curves}, trained=(low, high))


def larger_windows(curves: Mapping[str, Curve]) -> str:
    """What 18 σ instead of 12 σ bring, in one sentence."""
    worst = {edge: min((dict(c)[edge].auc, name) for name, c in curves.items()) for edge in (12.0, 18.0)}
    (small, name), (large, other) = worst[12.0], worst[18.0]
    if small == large == 1:
        return "From l = 0.2 to 0.3 nothing is left to be gained: AUC is 1 for every set."
    return (
        f"From l = 0.2 to 0.3 the lowest AUC goes from {small:.5f} (set {name}) to {large:.5f} (set {other})."
    )


def temperature_table(measured: Measured, network: Judge, data: Data, sets: Sequence[GlassSet]) -> None:
    """Probability of glass against temperature."""
    cooled = data.cooled()
    rows = against_temperature(network, cooled)
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
    words = "Its mean over runs does not cross 0.5 once."
    if crossing:
        words = f"Its mean over runs crosses 0.5 at T = {crossing:.2f}."
    measured.metrics["temperature"] = table(
        "Probability of glass against temperature", lines,
        f"Whole cells of slowly cooled test runs; ± over the runs. Only T = {GLASS:g} is glass in training. "
        f"{words}",
    )  # fmt: skip
    coldest = min(one.liquid.temperature for one in sets)
    if crossing:
        side = "below" if crossing < GLASS_TRANSITION else "above"
        measured.limits.append(
            f"Trained on T = {GLASS:g} as glass and T ≥ {coldest:g} as liquid, it has to put the border "
            f"somewhere between: its probability crosses 0.5 at T = {crossing:.2f}, {side} the T_g of "
            f"{GLASS_TRANSITION:g} at which the energy bends. It measures how much particles vibrate, not "
            "the glass transition; do not read a T_g from it."
        )
    liquids = sorted({one.liquid.temperature for one in sets})
    curves = {"configuration": rows}
    if "particles" in rows[0]:
        curves["mean of\nparticles"] = [{**row, "probability": row["particles"]} for row in rows]
    measured.figures["temperature"] = lambda: figure_temperature(
        curves, trained=(GLASS, liquids), spans={"T_g": (0.36, 0.38)}
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
    measured: Measured, network: Judge, data: Data, sets: Sequence[GlassSet], edge: float
) -> None:
    """What is left when vibration is taken away: minima of the energy."""
    config = network.config
    space = config.dimensions == 3
    tests = data.configurations(space, minimized=True)
    development = data.configurations(space, development=True, minimized=True)
    thermal = see(network, tests, data.per, edge, False)
    key = "minima", config.dimensions, edge
    if key not in data._kept:
        own = [POTENTIAL_ENERGY, FIRST_PEAK, metrics_of(config)]
        windows = [BaselineNumbers.of_windows(c, own, config, data.per, edge=edge, seed=s)
                   for s, c in enumerate((development, tests), start=1)]  # fmt: skip
        whole = [BaselineNumbers.of_whole(c, own) for c in (development, tests)]
        data._kept[key] = own, windows, whole
    own, windows, whole = data._kept[key]
    rows, n_networks = [], 0
    for k, one in enumerate(sets):
        found = {what: thermal.judge(what, tests, one) for what in thermal.scores}
        rows.append({"set": one.name, "method": "this checkpoint, not trained on minima"} | both(found))
        trained = None if space else data.network(f"minimum{k + 1}-dmpnn")
        if trained is not None and config.architecture == "dmpnn" and not config.attention:
            states = tests.of(one.glass, one.liquid)
            looked = see(trained, states, data.per, edge, False)
            found = {what: looked.judge(what, states, one) for what in looked.scores}
            rows.append({"set": one.name, "method": "networks trained on minima of the set"} | both(found))
            n_networks += 1
        for baseline in own:
            name = "inherent energy" if baseline is POTENTIAL_ENERGY else baseline.name
            found = {"windows": judge_baseline(baseline, *windows, one),
                     "whole": judge_baseline(baseline, *whole, one)}  # fmt: skip
            rows.append({"set": one.name, "method": name} | both(found))
    note = "The same configurations after minimization of their energy. ± from runs drawn with replacement."
    if not n_networks and not space:
        note += " Networks that have learned from minima: see dmpnn-v1."
    elif 0 < n_networks < len(sets):
        note += f" Networks that have learned from minima were there for {n_networks} of {len(sets)} sets."
    measured.metrics["minima"] = table("On minima of the energy", rows, note)
    calls = float(np.mean(thermal.scores["whole"].logit > 0))
    measured.metrics["minima_called_glass"] = calls
    if not 0.05 < calls < 0.95:
        side = "glass" if calls > 0.5 else "liquid"
        measured.limits.append(
            f"It sees thermal vibration: of minimized configurations, liquid and glass alike, it calls "
            f"{max(calls, 1 - calls):.0%} {side}. Do not minimize before asking it."
        )


def attention_table(
    measured: Measured, network: Judge, data: Data, sets: Sequence[GlassSet], test: Configurations
) -> None:
    """Metrics of attention graphs of liquid against glass."""
    cut = network.model.checkpoint.config.get("attention_threshold")
    where = "found in development runs and kept in the checkpoint"
    if cut is None:
        known = data.configurations(False, development=True)
        cut, _ = attention_cut(network, known.take(list(range(0, len(known), 3))))
        where = "found in development runs"
    found = attention_numbers(network, test, float(cut))
    rows = []
    for one in sets:
        for row in attention_tests(found, one):
            new = {"set": one.name, "metric": METRIC_NAMES[row["metric"]]}
            for side, state in (("liquid", one.liquid), ("glass", one.glass)):
                which = [k for k, frame in enumerate(test.frames) if state.holds(frame)]
                new[side] = row[side]
                new[f"± {side}"] = error_of_mean(found.numbers[row["metric"]][which])
            rows.append(new | {"p": row["p"], "p of pairs": row.get("p of pairs")})
    kept = {state.temperature: float(np.mean([found.shares["kept"][k] for k, frame in enumerate(test.frames)
            if state.holds(frame)])) for one in sets for state in (one.glass, one.liquid)}  # fmt: skip
    share = ", ".join(f"{v:.2f} at T = {t:g}" for t, v in sorted(kept.items()))
    measured.metrics["attention"] = table(
        "Attention graphs of liquid and glass", rows,
        f"Edges with attention of at least {cut:.4g}, one value for all configurations, {where}. ± from runs "
        "drawn with replacement; p of one-sided Wilcoxon tests that the glass has less: of rank sums, and of "
        "signed ranks with the liquid of a run beside its glass (of 15 runs, where differences are tied, at "
        f"least 3e-4). Share of edges kept: {share}.",
    )  # fmt: skip
    measured.limits.append(attention_limit(rows))
    states = [*dict.fromkeys(one.liquid for one in sets[:5]), sets[0].glass]
    numbers = {}
    for state in states:
        which = [k for k, frame in enumerate(test.frames) if state.holds(frame)]
        numbers[f"T = {state.temperature:g}"] = {name: found.numbers[name][which] for name in METRICS}
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
    """Where the glass has less, where it has not, and that this is no mechanism."""
    words = []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        own = [row for row in rows if row["metric"] == metric]
        less = sum(row["p"] < 1e-4 for row in own)
        more = sum(row["glass"] > row["liquid"] for row in own)
        words.append(
            f"{metric}: less in the glass with p < 1e-4 in {less} of {len(own)} sets, more in {more}"
        )
    return (
        "Attention says what the network weighs, and not what makes a glass. With one cut for all the graphs "
        "keep fewer edges the colder it is, and their numbers follow that ("
        + "; ".join(words)
        + "); energies and g(r) differ as clearly."
    )


def error_of_mean(values: NDArray[np.float64]) -> float | None:
    """Standard deviation of the mean over runs drawn with replacement."""
    drawn = Bootstrap(len(values), 2000).counts
    return float((drawn @ values / len(values)).std()) if len(drawn) else None


def timing(network: Judge, test: Configurations) -> dict[str, Any]:
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
    return table("Time for a whole cell", rows, "One core, least of four, neighbors included.")


# ------------------------------------------------------------------------------------------ cards


def card_of(checkpoint: Checkpoint, measured: Measured, data: Data) -> dict[str, Any]:
    """The new card: what training wrote, and what was measured."""
    old = checkpoint.card
    space = checkpoint.config["network"]["dimensions"] == 3
    kept: dict[str, Any] = {
        key: old[key] for key in ("summary", "labels", "split", "training") if old.get(key)
    }
    kept["data"] = old.get("data", {})
    tests = data.configurations(space)
    rows = [
        {"files": part, "runs": len(found), "particles": tests.frames[0].n_atoms,
         "first": found[0].name, "last": found[-1].name}
        for part in parts(space) if (found := data.files(part, TEST[part]))
    ]  # fmt: skip
    ranges = checkpoint.ranges or checkpoint.config.get("ranges") or {}
    limits = [
        "Trained on the Kob–Andersen mixture alone (phaseseg simulate ka2d, ka3d), at one density and "
        "composition: "
        + ", ".join(f"{k.replace('_', ' ')} {low:.3g} to {high:.3g}" for k, (low, high) in ranges.items())
        + ". Other mixtures have other distances; what it says of them has not been tested.",
        *measured.limits,
    ]
    if checkpoint.config["network"]["architecture"] == "cnn":
        limits.append(
            "Resolution and edge of the images (8 pixels per σ, 20 σ) were chosen by comparing settings on "
            "the slow test runs of set 5, so its numbers there are slightly too good; weights and epochs "
            "were not."
        )
    return {
        **kept,
        "test_data": table("Test data", rows, "Runs that no network and no baseline has learned from."),
        "metrics": measured.metrics,
        "limits": limits,
        "license": "MIT",
        "citation": {"software": "ovito-phaseseg, CITATION.cff", "method": PAPER},
        "made_with": f"phaseseg {__version__}, models/phaseseg/recipes/liquid_glass/cards.py",
    }


def put_figures(measured: Measured, folder: Path, stem: str) -> None:
    for name, make in measured.figures.items():
        put_figure(folder / f"{stem}-{name}.png", make(), dpi=90)


# ------------------------------------------------------------------------------------------ pages

CAPTIONS = {
    "transfer": "Networks trained on one set and tested on windows of another: AUC, and accuracy at 0.5.",
    "edge": "AUC against the edge of windows, with 95 % intervals from runs; shaded: edges in training.",
    "temperature": "Probability of glass while runs are cooled; triangles: temperatures in training.",
    "attention": "Edges with high attention in a liquid and in a glass.",
    "attention-metrics": "Metrics of attention graphs, a dot for each test configuration, and medians.",
}


def page(checkpoint: Checkpoint, figures: Path) -> str:
    """The page of a checkpoint."""
    card, network = checkpoint.card, checkpoint.config["network"]
    stem = last(checkpoint.name)
    members = len({key.partition(".")[0] for key in checkpoint.weights})
    n_weights = sum(values.size for values in checkpoint.weights.values())
    kind = network["architecture"] + (" with attention" if network.get("attention") else "")
    about = (
        f"Species {' and '.join(network['species'])} in {network['dimensions']} dimensions. "
        f"{members} networks ({kind}), {n_weights:,} numbers in all."
    )
    lines = [
        f"# {checkpoint.name}", "",
        "<!-- Made by models/phaseseg/recipes/liquid_glass/cards.py from the card in the checkpoint. -->", "",
        str(card.get("summary", "")), "",
        about, "",
        f"    phaseseg models show {checkpoint.name}", "",
    ]  # fmt: skip
    for name, caption in CAPTIONS.items():
        if (figures / f"{stem}-{name}.png").is_file():
            lines += [f"![{caption}](figures/{stem}-{name}.png)", "", caption, ""]
    order = ["limits", "split", "test_data", "metrics", "data", "training"]
    titles = {"test_data": "Test data", "metrics": "Measured"}
    for key in [*order, *(key for key in card if key not in (*order, "summary"))]:
        if card.get(key):
            lines += markdown(card[key], titles.get(key, key.replace("_", " ").capitalize()), 2)
    return "\n".join(lines).rstrip() + "\n"


def shelf(checkpoints: Sequence[Checkpoint]) -> str:
    """The table of models/README.md."""
    rows = []
    for one in checkpoints:
        row: dict[str, Any] = {
            "checkpoint": f"[`{one.name}`](../docs/checkpoints/{last(one.name)}.md)",
            "what": one.card.get("summary", ""),
        }
        found = list(rows_of(one.card.get("metrics", {}).get("sets", {"columns": [], "rows": []})))
        found = [line for line in found if line["trained on"] == "all sets"]
        for what in ("windows", "whole"):
            for key in ("AUC", "accuracy"):
                values = [line[f"{key}, {what}"] for line in found]
                row[f"{key}, {what}"] = cell(min(values)) if values else None
        rows.append(row)
    columns = ["checkpoint", "what", "AUC, windows", "accuracy, windows", "AUC, whole", "accuracy, whole"]
    note = (
        "The lowest of all sets, on runs that were not learned from, mean over the members of each. The "
        "potential energy and the first peak of g(r) have an AUC of 1 as well; the cards say so and more."
    )
    return "\n".join([
        "<!-- glass checkpoints: made by recipes/liquid_glass/cards.py -->", "",
        *markdown_table(columns, [[row.get(name) for name in columns] for row in rows]), "", note, "",
        "<!-- end of glass checkpoints -->",
    ])  # fmt: skip


def rows_of(source: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    return (dict(zip(source["columns"], row, strict=True)) for row in source["rows"])


def render(checkpoints: Sequence[Checkpoint], docs: Path, readme: Path) -> None:
    """The pages and the table of the shelf."""
    for checkpoint in checkpoints:
        put_text(docs / f"{last(checkpoint.name)}.md", page(checkpoint, docs / "figures"))
    put_index(docs)
    begin, end = "<!-- glass checkpoints: ", "<!-- end of glass checkpoints -->"
    put_text(readme, replace_block(readme.read_text("utf-8"), begin, end, shelf(checkpoints)))


# -------------------------------------------------------------------------------------------- run

_BEGIN = perf_counter()


def say(text: str) -> None:
    print(f"{perf_counter() - _BEGIN:6.0f} s  {text}", flush=True)


def last(name: str) -> str:
    return name.rpartition("/")[2]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("liquid-glass-data"))
    parser.add_argument("--nets", type=Path, default=Path("liquid-glass-checkpoints"))
    parser.add_argument("--checkpoint", nargs="+", metavar="NAME", help="only these, as dmpnn-v1")
    parser.add_argument("--output", type=Path, default=BUNDLED, help="folder for the files with cards")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "checkpoints")
    parser.add_argument("--readme", type=Path, default=ROOT / "models" / "README.md")
    parser.add_argument("--quick", action="store_true", help="fewer windows: to try the command")
    parser.add_argument("--render-only", action="store_true", help="pages from the cards as they are")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.render_only:
        data = Data(options.data, options.nets, 4 if options.quick else 10)
        for name in SHIPPED if options.checkpoint is None else map(last, options.checkpoint):
            network = data.network(name)
            if network is None:
                say(f"{name} is not in {options.nets} and is left out.")
                continue
            checkpoint = network.model.checkpoint
            measured = measure(network, data)
            put_figures(measured, options.docs / "figures", name)
            card = card_of(checkpoint, measured, data)
            write_card(checkpoint, card, options.output / f"{name}.safetensors")
            say(f"{name}: card of {len(json.dumps(card)) / 1000:.0f} kB")
    if options.output == BUNDLED:
        paths = list(bundled_checkpoints("liquid_glass").values())
    else:
        paths = sorted(options.output.glob("*.safetensors"))
    render([load_checkpoint(path) for path in paths], options.docs, options.readme)


if __name__ == "__main__":
    main()
