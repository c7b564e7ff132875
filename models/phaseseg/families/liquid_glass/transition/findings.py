"""What a transition analysis can and cannot show, as sentences made from its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, isnan
from typing import Any

import numpy as np

from phaseseg.display import value_and_error
from phaseseg.families.liquid_glass.transition.result import MetricTransition, Transition
from phaseseg.fields import Message
from phaseseg.statistics import FEW_RUNS, Floats, Regression

ALPHA = 0.05
"""Below this p a change of slope counts as seen, as in the paper."""


def findings(result: Transition, columns: Mapping[str, Any]) -> list[Message]:
    """The sentences of an analysis, most important question by question.

    columns : the rows that were analyzed, for what they say of the runs
    """
    return [
        *_about_runs(result, columns),
        *_about_glass_temperature(result),
        *_about_cooling(result),
        *_about_slopes(result),
        *_about_other_temperatures(result),
        *_about_curvature(result),
        *_about_breaks(result),
        *_about_minima(result),
    ]


def _join(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _and_numbers(parts: Sequence[str]) -> str:
    """As `_join`, for parts that have commas of their own."""
    return "; ".join(parts)


def _p(value: float) -> str:
    return "p = –" if isnan(value) else f"p = {value:.1g}" if value >= 1e-99 else "p < 1e-99"


def _about_runs(result: Transition, columns: Mapping[str, Any]) -> Iterator[Message]:
    n_runs, n_temperatures = len(result.runs), len(result.temperature)
    if n_temperatures == 1:
        yield Message(
            f"Every frame has T = {result.temperature[0]:g}, so there are means and nothing else. A change "
            "with temperature needs more temperatures.",
            "one-temperature",
        )
    if n_runs == 1:
        if n_temperatures > 1:
            yield Message(
                "There is one run, so means have no errors, and the t-test takes its frames as independent, "
                "which frames of one cooled system are not. Give several runs with different seeds.",
                "one-run",
            )
        return
    shared = next(iter(result.metrics.values())).n_runs
    if shared.max() == 1:
        yield Message(
            "No two runs share a temperature, so means have no errors. Use the temperature of the "
            "thermostat, not that of the velocities.",
            "no-shared-temperature",
        )
    if n_runs < FEW_RUNS:
        text = f"{n_runs} runs are too few for resampling, so there are no bootstrap intervals."
        yield Message(text, "few-runs")
    runs = np.asarray(columns["run"]).astype(str)

    def by_run(name: str) -> dict[str, float]:
        values = columns.get(name)
        if values is None or not np.isfinite(values).all():
            return {}
        return {run: float(values[runs == run][0]) for run in result.runs}

    owner: dict[float, str] = {}
    for run, seed in by_run("seed").items():
        if seed in owner:
            yield Message(
                f"{owner[seed]} and {run} have the same seed: they are one run counted twice, and every "
                "error is too small.",
                "same-seed",
            )
            break
        owner[seed] = run
    steps = set(by_run("cooling_steps").values())
    if len(steps) > 1:
        yield Message(
            f"Runs were cooled in {min(steps):g} to {max(steps):g} steps, and T_g and the metrics of the "
            "glass depend on the cooling rate. Analyze each cooling rate by itself.",
            "cooling-rates-differ",
        )


def _about_glass_temperature(result: Transition) -> Iterator[Message]:
    tg, found = result.glass_temperature, result.energy
    if len(result.temperature) == 1:
        return
    if found is not None:
        interval = found.interval
        spread = (
            f" ({result.bootstrap.confidence:.0%} interval over runs {interval.low:.3f} to "
            f"{interval.high:.3f})"
            if isfinite(interval.low)
            else ""
        )
        others = [
            f"{value:.3f} with the liquid taken up to {reach:g} T_g"
            for reach, value in found.others.items()
            if isfinite(value)
        ]
        yield Message(
            f"T_g = {value_and_error(found.temperature, interval.error)}{spread}: there the lines of glass "
            f"and liquid meet in the inherent energy from T = {found.lowest:g} to {found.highest:g}"
            + (f"; {_join(others)}." if others else "."),
            "glass-temperature",
        )
    elif "inherent_energy" in result.energies and result.origin != "given":
        n = len(result.temperature)
        yield Message(
            "The inherent energy shows no T_g: "
            + (
                f"two lines need at least five temperatures, found {n}."
                if n < 5
                else "no pair of lines that meet is steeper above the break than below it."
            ),
            "no-glass-temperature",
        )
    if not isfinite(tg):
        yield Message(
            "Without T_g there is no regression, only the scan over all temperatures. Give T_g, or runs "
            "with the inherent energy of every frame.",
            "no-regression",
        )
        return
    above = int(np.count_nonzero(result.temperature > tg))
    below = len(result.temperature) - above
    if min(below, above) < 2:
        side, count = ("below", below) if below < above else ("above", above)
        yield Message(
            f"There {'is' if count == 1 else 'are'} {count or 'no'} temperature{'s' * (count != 1)} {side} "
            f"T_g = {tg:.3g}: the regression needs two or more on each side.",
            "few-temperatures",
        )
        return
    low = result.temperature[result.temperature <= tg].max()
    high = result.temperature[result.temperature > tg].min()
    if result.origin == "given" and found is not None and not low <= found.temperature < high:
        yield Message(
            f"The T_g given, {tg:g}, is not that of the energy: between them lies a temperature, so the "
            "regression would differ.",
            "glass-temperatures-differ",
        )


def _about_cooling(result: Transition) -> Iterator[Message]:
    if len(result.temperature) < 2:
        return
    hot, cold = result.temperature[-1], result.temperature[0]
    falling = [metric for metric in result.metrics.values() if metric.falls]
    parts = [
        f"{metric.title} from {value_and_error(metric.mean[-1], metric.error[-1])} to "
        f"{value_and_error(metric.mean[0], metric.error[0])}"
        for metric in falling
    ]
    if parts:
        all_of = {3: "all three metrics fall", 2: "two metrics fall", 1: "one metric falls"}[len(parts)]
        text = f"On cooling from T = {hot:g} to {cold:g} {all_of}: {_and_numbers(parts)}."
        yield Message(text, "falls-on-cooling")
    for metric in result.metrics.values():
        if metric.falls:
            continue
        start, end, by, error = metric.rise
        if metric.rises:
            yield Message(
                f"On cooling, {metric.title} do not simply fall: they rise by {value_and_error(by, error)} "
                f"from T = {start:g} to {end:g}.",
                "rises-on-cooling",
            )
        else:
            text = f"On cooling from T = {hot:g} to {cold:g}, {metric.title} do not change."
            yield Message(text, "constant-on-cooling")


def passes(fit: Regression, *, sign: int = 1) -> bool:
    """Whether a3 has this sign by the t-test, and by the bootstrap where there is one."""
    boot = fit.bootstrap
    beyond = isnan(boot.low) or (boot.low > 0 if sign > 0 else boot.high < 0)
    return fit.p[3] < ALPHA and sign * fit.change > 0 and beyond


def _slope(metric: MetricTransition, fit: Regression) -> str:
    boot = fit.bootstrap
    drawn = f", over runs {boot.low:.3g} to {boot.high:.3g}, {_p(boot.p)}" if isfinite(boot.low) else ""
    return f"{metric.title} a3 = {value_and_error(fit.change, fit.errors[3])} (t-test {_p(fit.p[3])}{drawn})"


def _about_slopes(result: Transition) -> Iterator[Message]:
    fitted = [(metric, metric.fit) for metric in result.metrics.values() if metric.fit is not None]
    if not fitted:
        return
    steeper = [_slope(metric, fit) for metric, fit in fitted if passes(fit)]
    flatter = [_slope(metric, fit) for metric, fit in fitted if passes(fit, sign=-1)]
    constant = [metric.title for metric, fit in fitted if isnan(fit.p[3])]
    split = [
        _slope(metric, fit)
        for metric, fit in fitted
        if fit.p[3] < ALPHA and not passes(fit) and not passes(fit, sign=-1)
    ]
    rest = [_slope(metric, fit) for metric, fit in fitted if fit.p[3] >= ALPHA]
    tg = f"T_g = {result.glass_temperature:.3g}"
    if steeper:
        passed = ("one metric changes", "two metrics change", "all three metrics change")[len(steeper) - 1]
        text = f"Above {tg} {passed} more steeply with T than below, as published: {_and_numbers(steeper)}."
        yield Message(text, "steeper-above")
    if flatter:
        text = f"Above {tg} the slope is smaller than below, unlike published: {_and_numbers(flatter)}."
        yield Message(text, "flatter-above")
    if split:
        text = "The t-test sees a change of slope, but resampled runs, which are independent, do not: "
        yield Message(f"{text}{_and_numbers(split)}.", "rows-and-runs-disagree")
    if rest:
        yield Message(f"No change of slope at {tg} is seen: {_and_numbers(rest)}.", "no-change-of-slope")
    if constant:
        text = f"{_join(constant)} are the same in every frame, so there is no slope to change."
        yield Message(text, "constant-metric")


def _about_other_temperatures(result: Transition) -> Iterator[Message]:
    parts, only = [], []
    for metric in result.metrics.values():
        if metric.fit is None or not passes(metric.fit):
            continue
        tg = metric.fit.glass_temperature
        others = [
            fit for fit in metric.scan if not _same_split(result.temperature, fit.glass_temperature, tg)
        ]
        passing = [fit.glass_temperature for fit in others if passes(fit)]
        if passing:
            parts.append(
                f"{metric.title} at {len(passing)} of {len(others)} other temperatures "
                f"({_span(min(passing), max(passing))})"
            )
        elif others:
            only.append(metric.title)
    if parts:
        yield Message(
            f"The test does not single out T_g: it is also passed by {_join(parts)}. A small p says that one "
            "line does not fit, not where the slope changes.",
            "passed-elsewhere",
        )
    if only:
        yield Message(f"At no other temperature do {_join(only)} pass the test.", "passed-only-here")
    if not isfinite(result.glass_temperature):
        for metric in result.metrics.values():
            passing = [fit.glass_temperature for fit in metric.scan if passes(fit)]
            if passing:
                span = _span(min(passing), max(passing))
                yield Message(
                    f"{metric.title[0].upper()}{metric.title[1:]} change more steeply above than below at "
                    f"{len(passing)} of {len(metric.scan)} temperatures ({span}).",
                    "steeper-somewhere",
                )


def _span(low: float, high: float) -> str:
    return f"T = {low:.3g}" if low == high else f"T = {low:.3g} to {high:.3g}"


def _same_split(temperature: Floats, one: float, other: float) -> bool:
    return bool(np.count_nonzero(temperature <= one) == np.count_nonzero(temperature <= other))


def _about_curvature(result: Transition) -> Iterator[Message]:
    kept, turned, lost = list[str](), list[str](), list[str]()
    for metric in result.metrics.values():
        if metric.fit is None or metric.square is None or not passes(metric.fit):
            continue
        square = metric.square
        which = kept if passes(square) else turned if passes(square, sign=-1) else lost
        which.append(_slope(metric, square))
    if kept:
        text = f"With a T^2 term in the model the slope still changes at T_g: {_and_numbers(kept)}."
        yield Message(text, "kink-beyond-curvature")
    if lost:
        yield Message(
            "With a T^2 term in the model no change of slope is left, so a smooth curve fits as well: "
            f"{_and_numbers(lost)}.",
            "curvature-explains",
        )
    if turned:
        yield Message(
            "With a T^2 term in the model the slope changes the other way, so the upward bend lies "
            f"elsewhere: {_and_numbers(turned)}.",
            "curvature-reverses",
        )


def _about_breaks(result: Transition) -> Iterator[Message]:
    found = [
        (metric.title, metric.break_)
        for metric in result.metrics.values()
        if metric.break_ is not None and isfinite(metric.break_.lines.temperature)
    ]
    # A constant has no break, and rounding must not look like one.
    found = [(title, one) for title, one in found if one.line_residual > 1e-9 * (1 + abs(one.lines.level))]
    if not found:
        return
    parts = []
    for title, one in found:
        low, high = one.interval.low, one.interval.high
        spread = f" ({low:.3g} to {high:.3g})" if isfinite(low) else ""
        parts.append(f"T = {one.lines.temperature:.3g}{spread} for {title}")
    yield Message(f"Two lines that meet fit best with their break at {_join(parts)}.", "breaks")
    tg = result.glass_temperature
    if isfinite(tg) and all(isfinite(one.interval.low) for _, one in found):
        near = [title for title, one in found if one.interval.low <= tg <= one.interval.high]
        where = f"the interval of {_join(near)}" if near else "none of these intervals"
        yield Message(f"T_g = {tg:.3g} lies within {where}.", "breaks-and-glass-temperature")
    smooth = [title for title, one in found if one.parabola_residual < one.residual]
    if smooth:
        yield Message(
            f"A parabola, which has no break and one coefficient less, fits {_join(smooth)} better than two "
            "lines do.",
            "parabola-fits-better",
        )


def _about_minima(result: Transition) -> Iterator[Message]:
    edges = result.points["n_bb_edges"]
    empty = float(np.mean(edges[np.isfinite(edges)] == 0))
    if empty > 0.5:
        yield Message(
            f"{empty:.0%} of the frames have no B–B edge. Minimization removes these edges, which come from "
            "thermal vibration; take the frames as they were simulated.",
            "no-bb-edges",
        )
