"""Sentences on what a transition analysis can and cannot show, written from its numbers."""

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
"""A change of slope counts as found if p is below this value, as in the paper."""

# fmt: off
SENTENCES = {
    "one-temperature":
        "All frames have T = {t:g}, so only means are available. A change with temperature needs more "
        "temperatures.",
    "one-run":
        "There is only one run, so the means have no errors, and the t-test treats its frames as independent "
        "although frames of one cooled system are correlated. Add runs with different seeds.",
    "no-shared-temperature":
        "No two runs share a temperature, so the means have no errors. Use the temperature of the "
        "thermostat, not the kinetic temperature.",
    "few-runs": "{n} runs are too few for resampling, so there are no bootstrap intervals.",
    "same-seed":
        "{one} and {other} have the same seed, so one run is counted twice and all errors are too small.",
    "cooling-rates-differ":
        "Runs were cooled in {low:g} to {high:g} steps, but T_g and the metrics of the glass depend on the "
        "cooling rate. Analyze each cooling rate separately.",
    "glass-temperature":
        "T_g = {value}{spread} from the inherent energy: the lines of glass and liquid, fitted from "
        "T = {low:g} to {high:g}, cross there{others}.",
    "no-glass-temperature": "The inherent energy shows no T_g: {why}.",
    "no-regression":
        "Without T_g there is no regression, only the scan over all temperatures. Give T_g, or use runs with "
        "the inherent energy of every frame.",
    "few-temperatures":
        "There {count} {side} T_g = {tg:.3g}; the regression needs at least two on each side.",
    "glass-temperatures-differ":
        "The given T_g = {tg:g} differs from that of the inherent energy. At least one simulated temperature "
        "lies between them, so the regression depends on the choice.",
    "falls-on-cooling": "On cooling from T = {hot:g} to {cold:g}, {which}: {parts}.",
    "rises-on-cooling":
        "On cooling, {title} do not fall monotonically: they rise by {by} from T = {start:g} to {end:g}.",
    "constant-on-cooling": "On cooling from T = {hot:g} to {cold:g}, {title} do not change.",
    "steeper-above":
        "Above T_g = {tg:.3g}, {which} more steeply with T than below, as published: {slopes}.",
    "flatter-above":
        "Above T_g = {tg:.3g}, the slope is smaller than below, contrary to the published result: {slopes}.",
    "rows-and-runs-disagree":
        "The t-test finds a change of slope, but the bootstrap over independent runs does not: {slopes}.",
    "no-change-of-slope": "No change of slope is found at T_g = {tg:.3g}: {slopes}.",
    "constant-metric": "No slope can be tested for {titles}, which are the same in every frame.",
    "passed-elsewhere":
        "The test does not single out T_g. It also finds a change of slope in {parts}. A small p means that "
        "one line does not fit, but does not show where the slope changes.",
    "passed-only-here": "For {titles}, no other temperature passes the test.",
    "steeper-somewhere":
        "{title} change more steeply above T_g than below for {n} of {all} assumed values of T_g ({span}).",
    "kink-beyond-curvature": "With a T^2 term in the model, the slope still changes at T_g: {slopes}.",
    "curvature-explains":
        "With a T^2 term in the model, no change of slope is found; a smooth curve fits as well: {slopes}.",
    "curvature-reverses":
        "With a T^2 term in the model, the slope changes in the opposite direction at T_g, so the upward "
        "bend lies elsewhere: {slopes}.",
    "breaks": "The best fit of two connected lines has its break at {parts}.",
    "breaks-and-glass-temperature": "T_g = {tg:.3g} lies within {where}.",
    "parabola-fits-better":
        "A parabola, which has no break and one coefficient fewer, fits {titles} better than two lines.",
    "no-bb-edges":
        "{share:.0%} of the frames have no B–B edge. These edges come from thermal vibration, and "
        "minimization removes them; use frames that were not minimized.",
}
# fmt: on
"""Sentences by code."""

_FALL = ("one metric falls", "two metrics fall", "all three metrics fall")
_CHANGE = ("one metric changes", "two metrics change", "all three metrics change")


def findings(result: Transition, columns: Mapping[str, Any]) -> list[Message]:
    """Return the sentences of an analysis, in the order of its questions.

    columns : the analyzed rows, with the seed and the cooling steps of the runs
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
            spread = f" ({result.bootstrap.confidence:.0%} interval over runs: {ends})"
        others = [
            f"{value:.3f} if the liquid is fitted up to {reach:g} T_g"
            for reach, value in found.others.items()
            if isfinite(value)
        ]
        yield _said(
            "glass-temperature", value=value_and_error(found.temperature, interval.error), spread=spread,
            low=found.lowest, high=found.highest, others=f"; T_g is {_join(others)}" if others else "",
        )  # fmt: skip
    elif "inherent_energy" in result.energies and result.origin != "given":
        why = "no fit of two connected lines is steeper above the break than below"
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
    """Sign of a3 according to the t-test and, where available, the bootstrap; "open" if they disagree."""
    p, drawn = fit.p[3], fit.bootstrap
    if isnan(p):
        return "constant"
    if p >= ALPHA:
        return "same"
    if fit.change > 0 and (isnan(drawn.low) or drawn.low > 0):
        return "steeper"
    return "flatter" if fit.change < 0 and (isnan(drawn.low) or drawn.high < 0) else "open"


def _slopes(fits: Sequence[tuple[str, Regression]]) -> str:
    """Changes of slope as text, from pairs of title and fit."""

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
        # One temperature of the scan splits the rows exactly as T_g does.
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
    """Whether the metrics that pass the test also pass it with a T^2 term."""
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
    # A constant metric has no break; rounding errors must not pass for one.
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
