"""What a transition analysis can and cannot show, in sentences made from its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from phaseseg.families.liquid_glass.transition.regression import FEW_RUNS, Floats, Regression
from phaseseg.report import value_and_error

if TYPE_CHECKING:
    from phaseseg.families.liquid_glass.transition.analysis import MetricTransition, Transition

ALPHA = 0.05
"""Below this p a change of slope counts as seen, as in the paper."""


def conclusions(result: Transition, columns: Mapping[str, Any]) -> list[str]:
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


def _about_runs(result: Transition, columns: Mapping[str, Any]) -> Iterator[str]:
    n_runs, n_temperatures = len(result.runs), len(result.temperature)
    if n_temperatures == 1:
        yield (
            f"Every frame has T = {result.temperature[0]:g}: means are all there is to tell. A change with "
            "temperature needs more temperatures."
        )
    if n_runs == 1:
        if n_temperatures > 1:
            yield (
                "There is one run: means have no errors, and the t-test takes its frames as independent, "
                "which those of one cooled system are not. Give several runs of other seeds."
            )
        return
    shared = next(iter(result.metrics.values())).n_runs
    if shared.max() == 1:
        yield (
            "No two runs share a temperature, so means have no errors. Use the temperature of the "
            "thermostat, not that of the velocities."
        )
    if n_runs < FEW_RUNS:
        yield f"{n_runs} runs are too few to draw runs from: there are no bootstrap intervals."
    runs = np.asarray(columns["run"]).astype(str)
    for name, sentence in (
        ("seed", "the same seed: they are one run counted twice, and every error is too small."),
        ("cooling_steps", ""),
    ):
        values = columns.get(name)
        if values is None or not np.isfinite(values).all():
            continue
        of_run = {run: float(values[runs == run][0]) for run in result.runs}
        if sentence:
            owner: dict[float, str] = {}
            for run, value in of_run.items():
                if value in owner:
                    yield f"{owner[value]} and {run} have {sentence}"
                    break
                owner[value] = run
        elif len(set(of_run.values())) > 1:
            slow, fast = max(of_run.values()), min(of_run.values())
            yield (
                f"Runs were cooled in {fast:g} to {slow:g} steps: T_g and the metrics of the glass depend on "
                "that. Analyze each cooling rate by itself."
            )


def _about_glass_temperature(result: Transition) -> Iterator[str]:
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
        yield (
            f"T_g = {value_and_error(found.temperature, interval.error)}{spread}: there the lines of glass "
            f"and liquid meet in the inherent energy from T = {found.lowest:g} to {found.highest:g}"
            + (f"; {_join(others)}." if others else ".")
        )
    elif "inherent_energy" in result.energies and result.origin != "given":
        n = len(result.temperature)
        yield (
            "The inherent energy shows no T_g: "
            + (
                f"two lines need at least five temperatures, found {n}."
                if n < 5
                else "nowhere does it rise faster above a break than below it, with temperatures enough."
            )
        )
    if not isfinite(tg):
        yield (
            "Without T_g the regression is not made; the scan over all temperatures is. Give T_g, or runs "
            "with the inherent energy of every frame."
        )
        return
    above = int(np.count_nonzero(result.temperature > tg))
    below = len(result.temperature) - above
    if min(below, above) < 2:
        side, count = ("below", below) if below < above else ("above", above)
        yield (
            f"There {'is' if count == 1 else 'are'} {count or 'no'} temperature{'s' * (count != 1)} {side} "
            f"T_g = {tg:.3g}: the regression needs two or more on each side."
        )
        return
    low = result.temperature[result.temperature <= tg].max()
    high = result.temperature[result.temperature > tg].min()
    if result.origin == "given" and found is not None and not low <= found.temperature < high:
        yield (
            f"The T_g given, {tg:g}, is not that of the energy: between them lies a temperature, so the "
            "regression would differ."
        )


def _about_cooling(result: Transition) -> Iterator[str]:
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
        yield f"On cooling from T = {hot:g} to {cold:g} {all_of}: {_and_numbers(parts)}."
    for metric in result.metrics.values():
        if metric.falls:
            continue
        start, end, by, error = metric.rise
        if metric.rises:
            yield (
                f"On cooling, {metric.title} do not simply fall: they rise by {value_and_error(by, error)} "
                f"from T = {start:g} to {end:g}."
            )
        else:
            yield f"On cooling from T = {hot:g} to {cold:g}, {metric.title} do not change."


def passes(fit: Regression, *, sign: int = 1) -> bool:
    """a3 of this sign beyond doubt by the t-test, and by the bootstrap where there is one."""
    boot = fit.bootstrap
    beyond = isnan(boot.low) or (boot.low > 0 if sign > 0 else boot.high < 0)
    return fit.p[3] < ALPHA and sign * fit.change > 0 and beyond


def _slope(metric: MetricTransition, fit: Regression) -> str:
    boot = fit.bootstrap
    drawn = f", over runs {boot.low:.3g} to {boot.high:.3g}, {_p(boot.p)}" if isfinite(boot.low) else ""
    return f"{metric.title} a3 = {value_and_error(fit.change, fit.errors[3])} (t-test {_p(fit.p[3])}{drawn})"


def _about_slopes(result: Transition) -> Iterator[str]:
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
        yield f"Above {tg} {passed} more steeply with T than below, as published: {_and_numbers(steeper)}."
    if flatter:
        yield f"Above {tg} the slope is smaller than below, unlike published: {_and_numbers(flatter)}."
    if split:
        yield f"Rows and runs disagree, and runs are what is independent: {_and_numbers(split)}."
    if rest:
        yield f"No change of slope at {tg} is seen: {_and_numbers(rest)}."
    if constant:
        yield f"{_join(constant)} are the same in every frame: there is no slope to change."


def _about_other_temperatures(result: Transition) -> Iterator[str]:
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
        yield (
            f"The test does not single out T_g: it is also passed by {_join(parts)}. A small p says that one "
            "line does not fit, not where the slope changes."
        )
    if only:
        yield f"At no other temperature do {_join(only)} pass the test."
    if not isfinite(result.glass_temperature):
        for metric in result.metrics.values():
            passing = [fit.glass_temperature for fit in metric.scan if passes(fit)]
            if passing:
                span = _span(min(passing), max(passing))
                yield (
                    f"{metric.title[0].upper()}{metric.title[1:]} change more steeply above than below at "
                    f"{len(passing)} of {len(metric.scan)} temperatures ({span})."
                )


def _span(low: float, high: float) -> str:
    return f"T = {low:.3g}" if low == high else f"T = {low:.3g} to {high:.3g}"


def _same_split(temperature: Floats, one: float, other: float) -> bool:
    return bool(np.count_nonzero(temperature <= one) == np.count_nonzero(temperature <= other))


def _about_curvature(result: Transition) -> Iterator[str]:
    kept, turned, lost = list[str](), list[str](), list[str]()
    for metric in result.metrics.values():
        if metric.fit is None or metric.square is None or not passes(metric.fit):
            continue
        square = metric.square
        where = kept if passes(square) else turned if passes(square, sign=-1) else lost
        where.append(_slope(metric, square))
    if kept:
        yield f"Beside a T^2 term the slope still changes at T_g: {_and_numbers(kept)}."
    if lost:
        yield f"With a T^2 term nothing is left of it, a smooth curve does as well: {_and_numbers(lost)}."
    if turned:
        yield (
            "With a T^2 term the slope changes the other way, so what bends upward lies elsewhere: "
            f"{_and_numbers(turned)}."
        )


def _about_breaks(result: Transition) -> Iterator[str]:
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
    yield f"Two lines that meet fit best with their break at {_join(parts)}."
    tg = result.glass_temperature
    if isfinite(tg) and all(isfinite(one.interval.low) for _, one in found):
        near = [title for title, one in found if one.interval.low <= tg <= one.interval.high]
        yield (
            f"T_g = {tg:.3g} lies within the interval of {_join(near)}."
            if near
            else f"T_g = {tg:.3g} lies within none of these intervals."
        )
    smooth = [title for title, one in found if one.parabola_residual < one.residual]
    if smooth:
        yield (
            f"A parabola, which has no break and one coefficient less, fits {_join(smooth)} better than two "
            "lines do."
        )


def _about_minima(result: Transition) -> Iterator[str]:
    edges = result.points["n_bb_edges"]
    empty = float(np.mean(edges[np.isfinite(edges)] == 0))
    if empty > 0.5:
        yield (
            f"{empty:.0%} of the frames have no B–B edge. In minimized configurations these edges are gone, "
            "since thermal vibration makes them; take the frames as they were simulated."
        )
