"""Printed summary of the frames of a file, and the report with a page, figures and tables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phaseseg.display import html_grid, html_number, plural, value_and_error
from phaseseg.families.segmentation.labels.composition import (
    ATOMS,
    COEFFICIENTS,
    MOLECULES,
    WEIGHT,
    composition_in,
    enough_atoms,
)
from phaseseg.families.segmentation.rules import FixedRule, Rule
from phaseseg.families.segmentation.trajectory_statistics import (
    BoundaryScan,
    TrajectorySummary,
    boundary_message,
)
from phaseseg.fields import Fields, Message, Table
from phaseseg.frame import Frame, length_unit
from phaseseg.report import duration, html_settings, write_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class RunSummary(TrajectorySummary):
    """`TrajectorySummary` with the frame shown in figures and, optionally, a scan of boundary widths.

    Parameters
    ----------
    rule : rule of the labels or predictions
    source : name of the file
    average : ±ps over which densities were averaged
    scan : compare boundary widths
    """

    def __init__(
        self, rule: Rule, source: str = "", *, average: float | None = None, scan: bool = False
    ) -> None:
        super().__init__(rule, source)
        self.average = average
        self.scan = BoundaryScan(rule.species) if scan else None
        self._example: tuple[Frame, Fields] | None = None

    def add(self, frame: Frame, fields: Fields) -> None:
        super().add(frame, fields)
        if self.scan is not None:
            self.scan.add(frame, fields)
        if fields and (self._example is None or fields["n_domains"] or not self._example[1]["n_domains"]):
            self._example = frame, fields

    @property
    def example(self) -> tuple[Frame, Fields]:
        """The frame shown in figures: the last one with two phases if there are any.

        Raises
        ------
        ValueError
            If there are no frames.
        """
        if self._example is None:
            raise ValueError("there are no frames to show.")
        whole = getattr(self._example[0], "whole", None)
        if whole is not None:  # a worker of a cluster has kept the atoms
            self._example = whole()
        return self._example

    @property
    def messages(self) -> tuple[Message, ...]:
        unit = length_unit(self._example[0].units if self._example else "metal")
        found = (*super().messages, *_interface(self.scalar_table(), unit))
        return found if self.scan is None else (*found, boundary_message(self.scan.table()))

    def tables(self) -> dict[str, Table]:
        """Return the tables of `TrajectorySummary` and, if requested, `boundary_scan`."""
        return super().tables() | ({} if self.scan is None else {"boundary_scan": self.scan.table()})

    def write_report(self, folder: str | os.PathLike[str], about: Mapping[str, Any] | None = None) -> Path:
        """Write `report.html`, the figures (PNG) and the tables (CSV, and all in `tables.json`).

        The page embeds its figures and loads nothing from the internet.

        Parameters
        ----------
        folder : created if missing; existing files with these names are replaced
        about : `seconds` spent on labeling

        Returns
        -------
        Path
            Path of `report.html`.

        Raises
        ------
        OutputError
            If a file cannot be written. No file is left incomplete.
        """
        tables = self.tables()
        if len(self) == 1 and len(self.example[1]["domains"]):
            tables["domains"] = self.example[1]["domains"]
        return write_report(
            folder, title=f"Phases of {self.source}", lead=_lead(self, (about or {}).get("seconds")),
            figures=report_figures(self), tables=tables, messages=self.messages,
            sections=lambda shown: _sections(self, tables, shown),
            tiles=_tiles(tables["scalars"], len(self)),
        )  # fmt: skip


def _interface(scalars: Table, unit: str) -> Iterator[Message]:
    """Yield a sentence on the interface, if there is one: its area, free surfaces and width.

    unit : of lengths
    """
    rows = {row["name"]: row for row in scalars.rows() if row["mean"] > 0}

    def area(name: str) -> str:
        mean, error = rows[name]["mean"], rows[name]["mean ±"]
        return f"{value_and_error(mean if isfinite(error) else round(mean), error)} {unit}^2"

    if "interface_area" not in rows:
        return
    text = f"The interface has an area of {area('interface_area')}"
    if "area_rich_void" in rows:
        part = area("area_rich_void") if "area_rich_poor" in rows else "all"
        text += f", {part} of it toward a void or vapor"
    if "area_poor_void" in rows:
        text += f"; the free surface of the poor phase has {area('area_poor_void')}"
    width, error = _width(rows)
    if isfinite(width):
        text += f". Its 10–90 width is {value_and_error(width, error)} {unit}"
    yield Message(f"{text}.", "interface-area")


def _width(rows: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
    """Return the width of the (mean) profile and its error, or NaN if the profile has no width."""
    width = rows.get("mean_profile_width", rows.get("interface_width", {}))
    error = width.get("mean ±", nan)
    if "mean_profile_width" not in rows:
        error = rows.get("interface_width_error", {}).get("mean", nan)
    return width.get("mean", nan), error


def report_figures(summary: RunSummary) -> Iterator[tuple[str, str, Figure]]:
    """Yield name, caption and figure in the order of the page."""
    from phaseseg.families.segmentation import figures
    from phaseseg.families.segmentation.slices import figure_slices

    tables, rule = summary.tables(), summary.rule
    frame, fields = summary.example
    scalars = {row["name"]: row for row in tables["scalars"].rows()}
    shown = frame.source or summary.source
    what = "density" if isinstance(rule, FixedRule) else rule.quantity
    caption = (
        f"Slices through the cell ({shown}). Top: {what}; bottom: atoms near the slice, by phase. "
        f"The line marks the threshold of the {what}."
    )
    yield "slices", caption, figure_slices(frame, fields, rule)
    caption = f"Distribution of the {what} over the volume ({shown}), with the thresholds of the rules."
    yield "histogram", caption, figures.figure_histogram(fields, rule)
    bars = " Error bars are standard errors from block averaging." if len(summary) > 1 else ""
    caption = (
        f"Composition of the phases; the bulk is the part farther than {rule.bulk_distance:g} Å from the "
        f"interface.{bars}"
    )
    yield "composition", caption, figures.figure_composition(tables["composition"])
    if "proxigram" in tables:
        caption = (
            "Proxigram: number density and content of every element, and mass density, against the distance "
            "to the interface. The band is the 10–90 width fitted to the number density of the chosen "
            f"species.{bars}"
        )
        yield "proxigram", caption, figures.figure_proxigram(tables["proxigram"], _width(scalars))
    if len(summary) > 1:
        yield "time_series", "Time series of the frames.", figures.figure_time_series(tables["time_series"])
    if "boundary_scan" in tables:
        caption = "Variance over frames and mean of the content of the rich phase for each boundary width."
        yield "boundary_scan", caption, figures.figure_boundary_scan(tables["boundary_scan"])


# ---------------------------------------------------------------------------------------- page


def _sections(
    summary: RunSummary, tables: Mapping[str, Table], shown: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    contents = [composition_in(tables["composition"], unit) for unit in (WEIGHT, ATOMS, MOLECULES)]
    yield "Composition", "<br>".join(one.html() for one in contents if len(one)) + shown["composition"]
    yield "Where the phases are", shown["slices"] + shown["histogram"]
    if "proxigram" in shown:
        yield "The interface", shown["proxigram"]
    if "partition" in tables:
        note = (
            "<p>Ratio of the contents of the rich and the poor phase: the mean over frames, and the ratio of "
            "the mean contents, which is more reliable for scarce elements.</p>"
            if len(summary) > 1
            else "<p>Ratio of the contents of the rich and the poor phase.</p>"
        )
        yield "Partition coefficients", note + _shown_partition(tables).html()
    if "domains" in tables:
        yield "Rich domains", tables["domains"].html()
    if "time_series" in shown:
        yield "Along the trajectory", shown["time_series"]
    if "boundary_scan" in tables:
        yield "Boundary width", shown["boundary_scan"] + tables["boundary_scan"].html()
    yield "All numbers", _scalars(tables["scalars"])
    yield "How it was labeled", _rule(summary)


def _lead(summary: RunSummary, seconds: float | None) -> str:
    text = f"{plural(len(summary), 'frame')} of {summary.example[0].n_atoms:,} atoms"
    if seconds is not None:
        text += f", labeled in {duration(seconds)}"
    return f"{text}; the rich phase is rich in {' + '.join(summary.rule.species)}."


_TILES = {
    "phase_contrast": "contrast", "rich_mass_fraction": "rich mass fraction",
    "rich_volume_fraction": "rich volume fraction", "interface_area": "interface area",
    "interface_width": "10–90 interface width", "n_domains": "rich domains",
    "mean_uncertainty": "mean uncertainty", "outside_training": "outside the training data",
}  # fmt: skip


def _tiles(scalars: Table, n_frames: int) -> Iterator[tuple[str, str]]:
    rows = {row["name"]: row for row in scalars.rows()}
    share = rows["two_phase_share"]["mean"]
    if n_frames == 1:
        yield "two phases" if share else "one phase", "verdict"
    else:
        yield f"{share:.0%} of the frames", "of the frames have two phases"
    for name, label in _TILES.items():
        row = rows.get(name)
        if row and isfinite(row["mean"]):
            yield f"{value_and_error(row['mean'], row['mean ±'])} {_unit(row['unit'])}", label


def _unit(unit: str) -> str:
    """Format a unit with superscript powers."""
    return unit.replace("^2", "²").replace("^3", "³").replace("^-3", "⁻³")


def _shown_partition(tables: Mapping[str, Table]) -> Table:
    """Return the partition table without coefficients of the bulk if it has only a few atoms."""
    shown = {row["phase"] for row in tables["composition"].rows() if enough_atoms(row)}
    table = tables["partition"]
    if {"rich bulk", "poor bulk"} <= shown:
        return table
    bulk = [one.column for one in COEFFICIENTS if one.rich == "rich bulk"]
    return table.without(*(name for column in bulk for name in (column, f"{column} of means")))


def _scalars(table: Table) -> str:
    several = any(row["frames"] > 1 for row in table.rows())
    header = ["", "mean" if several else "value", "unit"]
    header += ["statistical inefficiency", "frames"] if several else []
    cells = []
    for row in table.rows():
        if isfinite(row["mean"]):
            line = [row["title"], html_number(row["mean"], row["mean ±"]), row["unit"]]
            if several:
                line += [value_and_error(round(row["statistical inefficiency"], 1)), str(row["frames"])]
            cells.append(line)
    return html_grid(header, cells)


_RULE_UNITS = {
    "sigma": "Å", "voxel": "Å", "min_volume": "Å³", "boundary_width": "Å", "bulk_distance": "Å",
}  # fmt: skip


def _rule(summary: RunSummary) -> str:
    rule, units = summary.rule, dict(_RULE_UNITS)
    values = rule.to_dict()
    if isinstance(rule, FixedRule):
        values["voxel"] = rule.voxel_size
    if summary.average is not None:
        values["average"] = f"±{summary.average:g} ps"
    if not isinstance(values.get(rule.level_name, ""), str):
        units[rule.level_name] = _unit(rule.unit)
    return html_settings(values, units)
