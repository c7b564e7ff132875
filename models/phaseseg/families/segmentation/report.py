"""The printed summary of the frames of a file, and its report: a page, figures and tables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from html import escape
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phaseseg.display import html_grid, html_number, plural, value_and_error
from phaseseg.families.segmentation.labels.composition import (
    ATOMS,
    COEFFICIENTS,
    WEIGHT,
    composition_in,
    enough_atoms,
)
from phaseseg.families.segmentation.rules import LabelRule, Rule
from phaseseg.families.segmentation.trajectory_statistics import (
    BoundaryScan,
    TrajectorySummary,
    boundary_message,
)
from phaseseg.fields import Fields, Message, Table
from phaseseg.frame import Frame
from phaseseg.report import duration, html_settings, write_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class RunSummary(TrajectorySummary):
    """A `TrajectorySummary` with the frame that figures show and, on request, a scan of boundary widths.

    Parameters
    ----------
    rule : how the frames are labeled or predicted
    source : name of the file
    average : ±ps over which densities were averaged
    scan : whether boundary widths are compared
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
        if self._example is None or fields["n_domains"] or not self._example[1]["n_domains"]:
            self._example = frame, fields

    @property
    def example(self) -> tuple[Frame, Fields]:
        """The frame shown in figures: the last one with two phases, if any.

        Raises
        ------
        ValueError
            If there are no frames.
        """
        if self._example is None:
            raise ValueError("there are no frames to show.")
        return self._example

    @property
    def messages(self) -> tuple[Message, ...]:
        found = super().messages
        return found if self.scan is None else (*found, boundary_message(self.scan.table()))

    def tables(self) -> dict[str, Table]:
        """Those of `TrajectorySummary`, and `boundary_scan` on request."""
        return super().tables() | ({} if self.scan is None else {"boundary_scan": self.scan.table()})

    def write_report(self, folder: str | os.PathLike[str], about: Mapping[str, Any] | None = None) -> Path:
        """Write `report.html`, the figures (PNG) and the tables (CSV, and all in `tables.json`).

        The page holds its figures and asks the network for nothing.

        Parameters
        ----------
        folder : made if missing; files of these names in it are replaced
        about : `seconds` that labeling took

        Returns
        -------
        Path
            Of `report.html`.

        Raises
        ------
        OutputError
            If something cannot be written. Every file is whole or not there.
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


def report_figures(summary: RunSummary) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and figure, in the order of the page."""
    from phaseseg.families.segmentation import figures
    from phaseseg.families.segmentation.slices import figure_slices

    tables, rule = summary.tables(), summary.rule
    frame, fields = summary.example
    scalars = {row["name"]: row for row in tables["scalars"].rows()}
    width = scalars.get("mean_profile_width", scalars.get("interface_width", {}))
    shown = frame.source or summary.source
    what = "density" if isinstance(rule, LabelRule) else rule.quantity
    caption = (
        f"Slices through the cell ({shown}). Above: the {what}; below: the atoms near the slice, by phase. "
        f"The line is where the {what} passes the cut."
    )
    yield "slices", caption, figure_slices(frame, fields, rule)
    caption = f"Distribution of the {what} over the volume ({shown}), and where the rules cut it."
    yield "histogram", caption, figures.figure_histogram(fields, rule)
    bars = " Bars are standard errors by block averaging." if len(summary) > 1 else ""
    caption = (
        f"Composition of the phases; the bulk is what lies farther than {rule.bulk_distance:g} Å from the "
        f"interface.{bars}"
    )
    yield "composition", caption, figures.figure_composition(tables["composition"])
    if "proxigram" in tables:
        caption = (
            "Proxigram: content of every element against the distance to the interface. "
            f"The band is the fitted 10–90 width of the chosen species.{bars}"
        )
        band = width.get("mean", nan), width.get("mean ±", nan)
        yield "proxigram", caption, figures.figure_proxigram(tables["proxigram"], band)
    if len(summary) > 1:
        yield "time_series", "Time series of the frames.", figures.figure_time_series(tables["time_series"])
    if "boundary_scan" in tables:
        caption = (
            "Variance over the frames, and mean, of the content of the rich phase for each boundary width."
        )
        yield "boundary_scan", caption, figures.figure_boundary_scan(tables["boundary_scan"])


# ---------------------------------------------------------------------------------------- page


def _sections(
    summary: RunSummary, tables: Mapping[str, Table], shown: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    contents = [composition_in(tables["composition"], unit) for unit in (WEIGHT, ATOMS)]
    yield "Composition", "<br>".join(one.html() for one in contents if len(one)) + shown["composition"]
    yield "Where the phases are", shown["slices"] + shown["histogram"]
    if "proxigram" in shown:
        yield "The interface", shown["proxigram"]
    if "partition" in tables:
        note = (
            "<p>Content of the rich over that of the poor phase: the mean of the frames, and the quotient of "
            "the mean contents, which is the better number where an element is scarce.</p>"
            if len(summary) > 1
            else "<p>Content of the rich over that of the poor phase.</p>"
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
    return f"{text}; the rich phase is rich in {escape(' + '.join(summary.rule.species))}."


_TILES = {
    "phase_contrast": "contrast", "rich_mass_fraction": "rich mass fraction",
    "rich_volume_fraction": "rich volume fraction", "interface_area": "interface area",
    "interface_width": "10–90 interface width", "n_domains": "rich domains",
    "mean_uncertainty": "mean uncertainty", "outside_training": "outside of the training data",
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
    """A unit with its powers set high."""
    return unit.replace("^2", "²").replace("^3", "³").replace("^-3", "⁻³")


def _shown_partition(tables: Mapping[str, Table]) -> Table:
    """Without coefficients of the bulk where that is a handful of atoms."""
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
            line = [escape(row["title"]), html_number(row["mean"], row["mean ±"]), escape(row["unit"])]
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
    if isinstance(rule, LabelRule):
        values["voxel"] = rule.voxel_size
    if summary.average is not None:
        values["average"] = f"±{summary.average:g} ps"
    if not isinstance(values.get(rule.level_name, ""), str):
        units[rule.level_name] = _unit(rule.unit)
    return html_settings(values, units)
