"""What a transition analysis can and cannot show, as sentences made from its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, isnan
from typing import Any, Literal

import numpy as np

from phaseseg.display import value_and_error
from phaseseg.families.liquid_glass.transition.result import Transition
from phaseseg.fields import Message
from phaseseg.statistics import FEW_RUNS, Regression

ALPHA = 0.05
"""Below this p a change of slope counts as seen, as in the paper."""

# fmt: off
SENTENCES = {
    "one-temperature":
        "Every frame has T = {t:g}, so there are means and nothing else. A change with temperature needs "
        "more temperatures.",
    "one-run":
        "There is one run, so means have no errors, and the t-test takes its frames as independent, which "
        "frames of one cooled system are not. Give several runs with different seeds.",
    "no-shared-temperature":
        "No two runs share a temperature, so means have no errors. Use the temperature of the thermostat, "
        "not that of the velocities.",
    "few-runs": "{n} runs are too few for resampling, so there are no bootstrap intervals.",
    "same-seed":
        "{one} and {other} have the same seed: they are one run counted twice, and every error is too small.",
    "cooling-rates-differ":
        "Runs were cooled in {low:g} to {high:g} steps, and T_g and the metrics of the glass depend on the "
        "cooling rate. Analyze each cooling rate by itself.",
    "glass-temperature":
        "T_g = {value}{spread}: there the lines of glass and liquid meet in the inherent energy from "
        "T = {low:g} to {high:g}{others}.",
    "no-glass-temperature": "The inherent energy shows no T_g: {why}.",
    "no-regression":
        "Without T_g there is no regression, only the scan over all temperatures. Give T_g, or runs with the "
        "inherent energy of every frame.",
    "few-temperatures":
        "There {count} {side} T_g = {tg:.3g}: the regression needs two or more on each side.",
    "glass-temperatures-differ":
        "The T_g given, {tg:g}, is not that of the energy: between them lies a temperature, so the "
        "regression would differ.",
    "falls-on-cooling": "On cooling from T = {hot:g} to {cold:g} {which}: {parts}.",
    "rises-on-cooling":
        "On cooling, {title} do not simply fall: they rise by {by} from T = {start:g} to {end:g}.",
    "constant-on-cooling": "On cooling from T = {hot:g} to {cold:g}, {title} do not change.",
    "steeper-above":
        "Above T_g = {tg:.3g} {which} more steeply with T than below, as published: {slopes}.",
    "flatter-above": "Above T_g = {tg:.3g} the slope is smaller than below, unlike published: {slopes}.",
    "rows-and-runs-disagree":
        "The t-test sees a change of slope, but resampled runs, which are independent, do not: {slopes}.",
    "no-change-of-slope": "No change of slope at T_g = {tg:.3g} is seen: {slopes}.",
    "constant-metric": "{titles} are the same in every frame, so there is no slope to change.",
    "passed-elsewhere":
        "The test does not single out T_g: it is also passed by {parts}. A small p says that one line does "
        "not fit, not where the slope changes.",
    "passed-only-here": "At no other temperature do {titles} pass the test.",
    "steeper-somewhere":
        "{title} change more steeply above than below at {n} of {all} temperatures ({span}).",
    "kink-beyond-curvature": "With a T^2 term in the model the slope still changes at T_g: {slopes}.",
    "curvature-explains":
        "With a T^2 term in the model no change of slope is left, so a smooth curve fits as well: {slopes}.",
    "curvature-reverses":
        "With a T^2 term in the model the slope changes the other way, so the upward bend lies elsewhere: "
        "{slopes}.",
    "breaks": "Two lines that meet fit best with their break at {parts}.",
    "breaks-and-glass-temperature": "T_g = {tg:.3g} lies within {where}.",
    "parabola-fits-better":
        "A parabola, which has no break and one coefficient less, fits {titles} better than two lines do.",
    "no-bb-edges":
        "{share:.0%} of the frames have no B–B edge. Minimization removes these edges, which come from "
        "thermal vibration; take the frames as they were simulated.",
}
# fmt: on
"""The sentences by their codes."""

_FALL = ("one metric falls", "two metrics fall", "all three metrics fall")
_CHANGE = ("one metric changes", "two metrics change", "all three metrics change")


def findings(result: Transition, columns: Mapping[str, Any]) -> list[Message]:
    """The sentences of an analysis, most important question by question.

    columns : the rows that were analyzed; they describe the runs
    """
    found = list(_about_runs(result, columns))
    if len(result.temperature) > 1:
        found += [*_about_glass_temperature(result), *_about_cooling(result)]
    found += [*_about_slopes(result), *_about_other_temperatures(result), *_about_curvature(result)]
    found += _about_breaks(result)
    edges = result.points["n_bb_edges"]
    empty = float(np.mean(edges[np.isfinite(edges)] == 0))
    return [*found, _said("no-bb-edges", share=empty)] if empty > 0.5 else found


def _said(code: str, **values: Any) -> Message:
    return Message(SENTENCES[code].format(**values), code)


def _join(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _about_runs(result: Transition, columns: Mapping[str, Any]) -> Iterator[Message]:
    n_runs = len(result.runs)
    if len(result.temperature) == 1:
        yield _said("one-temperature", t=result.temperature[0])
    elif n_runs == 1:
        yield _said("one-run")
    if n_runs == 1:
        return
    if next(iter(result.metrics.values())).n_runs.max() == 1:
        yield _said("no-shared-temperature")
    if n_runs < FEW_RUNS:
        yield _said("few-runs", n=n_runs)
    runs = np.asarray(columns["run"]).astype(str)

    def by_run(name: str) -> dict[str, float]:
        values = columns.get(name)
        if values is None or not np.isfinite(values).all():
            return {}
        return {run: float(values[runs == run][0]) for run in result.runs}

    owner: dict[float, str] = {}
    for run, seed in by_run("seed").items():
        if owner.setdefault(seed, run) != run:
            yield _said("same-seed", one=owner[seed], other=run)
            break
    steps = set(by_run("cooling_steps").values())
    if len(steps) > 1:
        yield _said("cooling-rates-differ", low=min(steps), high=max(steps))


def _about_glass_temperature(result: Transition) -> Iterator[Message]:
    t, tg, found = result.temperature, result.glass_temperature, result.energy
    if found is not None:
        interval = found.interval
        spread = ""
        if isfinite(interval.low):
            ends = f"{interval.low:.3f} to {interval.high:.3f}"
            spread = f" ({result.bootstrap.confidence:.0%} interval over runs {ends})"
        others = [
            f"{value:.3f} with the liquid taken up to {reach:g} T_g"
            for reach, value in found.others.items()
            if isfinite(value)
        ]
        yield _said(
            "glass-temperature", value=value_and_error(found.temperature, interval.error), spread=spread,
            low=found.lowest, high=found.highest, others=f"; {_join(others)}" if others else "",
        )  # fmt: skip
    elif "inherent_energy" in result.energies and result.origin != "given":
        why = "no pair of lines that meet is steeper above the break than below it"
        if len(t) < 5:
            why = f"two lines need at least five temperatures, found {len(t)}"
        yield _said("no-glass-temperature", why=why)
    if not isfinite(tg):
        yield _said("no-regression")
        return
    below, above = t[t <= tg], t[t > tg]
    if min(len(below), len(above)) < 2:
        side, n = ("below", len(below)) if len(below) < len(above) else ("above", len(above))
        count = "is 1 temperature" if n == 1 else f"are {n or 'no'} temperatures"
        yield _said("few-temperatures", count=count, side=side, tg=tg)
    elif result.origin == "given" and found is not None and not below[-1] <= found.temperature < above[0]:
        yield _said("glass-temperatures-differ", tg=tg)


def _about_cooling(result: Transition) -> Iterator[Message]:
    ends = {"hot": result.temperature[-1], "cold": result.temperature[0]}
    parts = []
    for metric in result.metrics.values():
        hot, cold = (value_and_error(metric.mean[n], metric.error[n]) for n in (-1, 0))
        if metric.falls:
            parts.append(f"{metric.title} from {hot} to {cold}")
    if parts:
        yield _said("falls-on-cooling", **ends, which=_FALL[len(parts) - 1], parts="; ".join(parts))
    for metric in result.metrics.values():
        start, end, by, error = metric.rise
        if metric.rises:
            by_how_much = value_and_error(by, error)
            yield _said("rises-on-cooling", title=metric.title, by=by_how_much, start=start, end=end)
        elif not metric.falls:
            yield _said("constant-on-cooling", **ends, title=metric.title)


def verdict(fit: Regression) -> Literal["steeper", "flatter", "open", "same", "constant"]:
    """What is seen of a3: its sign by the t-test, and by the bootstrap where there is one.

    It is open where the two disagree.
    """
    p, drawn = fit.p[3], fit.bootstrap
    if isnan(p):
        return "constant"
    if p >= ALPHA:
        return "same"
    if fit.change > 0 and (isnan(drawn.low) or drawn.low > 0):
        return "steeper"
    return "flatter" if fit.change < 0 and (isnan(drawn.low) or drawn.high < 0) else "open"


def _slopes(fits: Sequence[tuple[str, Regression]]) -> str:
    """The changes of slope of metrics, which are given by their titles."""

    def p(value: float) -> str:
        return "p = –" if isnan(value) else f"p = {value:.1g}" if value >= 1e-99 else "p < 1e-99"

    parts = []
    for title, fit in fits:
        low, high, p_drawn = fit.bootstrap.low, fit.bootstrap.high, p(fit.bootstrap.p)
        drawn = f", over runs {low:.3g} to {high:.3g}, {p_drawn}" if isfinite(low) else ""
        change = value_and_error(fit.change, fit.errors[3])
        parts.append(f"{title} a3 = {change} (t-test {p(fit.p[3])}{drawn})")
    return "; ".join(parts)


def _about_slopes(result: Transition) -> Iterator[Message]:
    codes = {
        "steeper": "steeper-above", "flatter": "flatter-above", "open": "rows-and-runs-disagree",
        "same": "no-change-of-slope", "constant": "constant-metric",
    }  # fmt: skip
    fitted = [(metric.title, metric.fit) for metric in result.metrics.values() if metric.fit is not None]
    for seen, code in codes.items():
        fits = [(title, fit) for title, fit in fitted if verdict(fit) == seen]
        if fits:
            yield _said(
                code, tg=result.glass_temperature, which=_CHANGE[len(fits) - 1], slopes=_slopes(fits),
                titles=_join([title for title, _ in fits]),
            )  # fmt: skip


def _about_other_temperatures(result: Transition) -> Iterator[Message]:
    parts, only, steeper = [], [], []
    for metric in result.metrics.values():
        passing = [fit.glass_temperature for fit in metric.scan if verdict(fit) == "steeper"]
        if passing and not isfinite(result.glass_temperature):
            title = metric.title[0].upper() + metric.title[1:]
            n, span = len(passing), _span(passing)
            steeper.append(_said("steeper-somewhere", title=title, n=n, all=len(metric.scan), span=span))
        if metric.fit is None or verdict(metric.fit) != "steeper":
            continue
        # Of the temperatures of the scan one splits the rows as T_g does.
        place = np.searchsorted(result.temperature, metric.fit.glass_temperature, "right")
        others = [
            fit.glass_temperature
            for fit in metric.scan
            if np.searchsorted(result.temperature, fit.glass_temperature, "right") != place
        ]
        elsewhere = [t for t in others if t in passing]
        if elsewhere:
            where = f"{len(elsewhere)} of {len(others)} other temperatures ({_span(elsewhere)})"
            parts.append(f"{metric.title} at {where}")
        elif others:
            only.append(metric.title)
    if parts:
        yield _said("passed-elsewhere", parts=_join(parts))
    if only:
        yield _said("passed-only-here", titles=_join(only))
    yield from steeper


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"T = {low:.3g}" if low == high else f"T = {low:.3g} to {high:.3g}"


def _about_curvature(result: Transition) -> Iterator[Message]:
    """Of the metrics that pass the test: whether they pass it with a T^2 term as well."""
    found: dict[str, list[tuple[str, Regression]]] = {
        "kink-beyond-curvature": [], "curvature-explains": [], "curvature-reverses": []
    }  # fmt: skip
    codes = {"steeper": "kink-beyond-curvature", "flatter": "curvature-reverses"}
    for metric in result.metrics.values():
        square = metric.square
        if metric.fit is not None and square is not None and verdict(metric.fit) == "steeper":
            found[codes.get(verdict(square), "curvature-explains")].append((metric.title, square))
    for code, fits in found.items():
        if fits:
            yield _said(code, slopes=_slopes(fits))


def _about_breaks(result: Transition) -> Iterator[Message]:
    found = [(metric.title, metric.break_) for metric in result.metrics.values() if metric.break_ is not None]
    # A constant has no break, and rounding must not look like one.
    found = [
        (title, one)
        for title, one in found
        if isfinite(one.lines.temperature) and one.line_residual > 1e-9 * (1 + abs(one.lines.level))
    ]
    if not found:
        return
    parts = []
    for title, one in found:
        low, high = one.interval.low, one.interval.high
        spread = f" ({low:.3g} to {high:.3g})" if isfinite(low) else ""
        parts.append(f"T = {one.lines.temperature:.3g}{spread} for {title}")
    yield _said("breaks", parts=_join(parts))
    tg = result.glass_temperature
    if isfinite(tg) and all(isfinite(one.interval.low) for _, one in found):
        near = [title for title, one in found if one.interval.low <= tg <= one.interval.high]
        where = f"the interval of {_join(near)}" if near else "none of these intervals"
        yield _said("breaks-and-glass-temperature", tg=tg, where=where)
    smooth = [title for title, one in found if one.parabola_residual < one.residual]
    if smooth:
        yield _said("parabola-fits-better", titles=_join(smooth))
