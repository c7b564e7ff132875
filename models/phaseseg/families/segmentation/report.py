"""A report: one self-contained HTML page, with its figures and tables as separate files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from math import isfinite
from pathlib import Path

from matplotlib.figure import Figure

from phaseseg.display import html_grid, html_number, value_and_error
from phaseseg.families.segmentation import figures
from phaseseg.families.segmentation.labels.composition import ATOMS, COEFFICIENTS, WEIGHT
from phaseseg.families.segmentation.labels.composition_rows import composition_in, enough_atoms
from phaseseg.families.segmentation.rules import LabelRule, Rule
from phaseseg.families.segmentation.slices import figure_slices
from phaseseg.families.segmentation.trajectory_statistics import TrajectorySummary, boundary_message
from phaseseg.fields import Fields, Table
from phaseseg.frame import Frame
from phaseseg.report import duration, html_settings, html_tiles, write_report as write_any_report


@dataclass(frozen=True)
class Report:
    """What a page shows of a labeled file.

    summary : of all frames
    rule : how they were labeled
    frame, fields : the one frame that is shown in pictures
    source : name of the file
    boundary_scan : table of `boundary_width_scan`, optional
    average : ±ps over which densities were averaged, optional
    seconds : time that labeling took, optional
    """

    summary: TrajectorySummary
    rule: Rule
    frame: Frame
    fields: Fields
    source: str
    boundary_scan: Table | None = None
    average: float | None = None
    seconds: float | None = None


def report_tables(report: Report) -> dict[str, Table]:
    """Every table of a report under its name."""
    tables = report.summary.tables()
    if report.boundary_scan is not None:
        tables["boundary_scan"] = report.boundary_scan
    if len(report.summary) == 1 and len(report.fields["domains"]):
        tables["domains"] = report.fields["domains"]
    return tables


def report_figures(report: Report) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and figure, in the order of the page."""
    tables = report.summary.tables()
    scalars = {row["name"]: row for row in tables["scalars"].rows()}
    width = scalars.get("mean_profile_width", scalars.get("interface_width", {}))
    shown = report.frame.source or report.source
    what = "density" if isinstance(report.rule, LabelRule) else report.rule.quantity
    caption = (
        f"Slices through the cell ({shown}). Above: the {what}; below: the atoms near the slice, by phase. "
        f"The line is where the {what} passes the cut."
    )
    yield "slices", caption, figure_slices(report.frame, report.fields, report.rule)
    yield (
        "histogram",
        f"Distribution of the {what} over the volume ({shown}), and where the rules cut it.",
        figures.figure_histogram(report.fields, report.rule),
    )
    yield (
        "composition",
        "Composition of the phases; the bulk is what lies farther than "
        f"{report.rule.bulk_distance:g} Å from the interface." + _bars(report.summary),
        figures.figure_composition(tables["composition"]),
    )
    if "proxigram" in tables:
        yield (
            "proxigram",
            "Proxigram: content of every element against the distance to the interface. "
            "The band is the fitted 10–90 width of the chosen species." + _bars(report.summary),
            figures.figure_proxigram(
                tables["proxigram"],
                interface_width=width.get("mean"),
                interface_width_error=width.get("mean ±"),
            ),
        )
    if len(report.summary) > 1:
        yield (
            "time_series",
            "Time series of the frames.",
            figures.figure_time_series(tables["time_series"]),
        )
    if report.boundary_scan is not None:
        yield (
            "boundary_scan",
            "Variance over the frames, and mean, of the content of the rich phase for each boundary width.",
            figures.figure_boundary_scan(report.boundary_scan),
        )


def _bars(summary: TrajectorySummary) -> str:
    return " Bars are standard errors by block averaging." if len(summary) > 1 else ""


def write_report(directory: str | os.PathLike[str], report: Report) -> Path:
    """Write `report.html`, the figures (PNG) and the tables (CSV, and all in `tables.json`).

    The page holds its figures and asks the network for nothing.

    Parameters
    ----------
    directory : made if missing; files of these names in it are replaced

    Returns
    -------
    Path
        Of `report.html`.

    Raises
    ------
    OutputError
        If something cannot be written. Every file is whole or not there.
    """
    tables = report_tables(report)
    return write_any_report(
        directory, title=f"Phases of {report.source}", lead=_lead(report), figures=report_figures(report),
        tables=tables, sections=lambda shown: _sections(report, tables, shown),
        messages=report.summary.messages, above=html_tiles(_tiles(tables["scalars"], len(report.summary))),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------- page


def _sections(
    report: Report, tables: Mapping[str, Table], shown: Mapping[str, str]
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
            if len(report.summary) > 1
            else "<p>Content of the rich over that of the poor phase.</p>"
        )
        yield "Partition coefficients", note + _shown_partition(tables).html()
    if "domains" in tables:
        yield "Rich domains", tables["domains"].html()
    if "time_series" in shown:
        yield "Along the trajectory", shown["time_series"]
    if report.boundary_scan is not None:
        scan = shown["boundary_scan"] + report.boundary_scan.html()
        yield "Boundary width", f"<p>{boundary_message(report.boundary_scan)}</p>{scan}"
    yield "All numbers", _scalars(tables["scalars"])
    yield "How it was labeled", _rule(report)


def _lead(report: Report) -> str:
    n_frames = len(report.summary)
    frames = "1 frame" if n_frames == 1 else f"{n_frames} frames"
    text = f"{frames} of {report.frame.n_atoms:,} atoms"
    if report.seconds is not None:
        text += f", labeled in {duration(report.seconds)}"
    return f"{text}; the rich phase is rich in {escape(' + '.join(report.rule.species))}."


def _tiles(scalars: Table, n_frames: int) -> Iterator[tuple[str, str]]:
    rows = {row["name"]: row for row in scalars.rows()}
    share = rows["two_phase_share"]["mean"]
    verdict = ("two phases" if share else "one phase") if n_frames == 1 else f"{share:.0%} of the frames"
    yield verdict, "verdict" if n_frames == 1 else "of the frames have two phases"
    for name, label in (
        ("phase_contrast", "contrast"),
        ("rich_mass_fraction", "rich mass fraction"),
        ("rich_volume_fraction", "rich volume fraction"),
        ("interface_area", "interface area"),
        ("interface_width", "10–90 interface width"),
        ("n_domains", "rich domains"),
        ("mean_uncertainty", "mean uncertainty"),
        ("outside_training", "outside of the training data"),
    ):
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
            line += (
                [value_and_error(round(row["statistical inefficiency"], 1)), str(row["frames"])]
                if several
                else []
            )
            cells.append(line)
    return html_grid(header, cells)


_RULE_UNITS = {
    "sigma": "Å", "voxel": "Å", "min_volume": "Å³", "boundary_width": "Å", "bulk_distance": "Å",
}  # fmt: skip


def _rule(report: Report) -> str:
    values = report.rule.to_dict()
    if isinstance(report.rule, LabelRule):
        values["voxel"] = report.rule.voxel_size
    if report.average is not None:
        values["average"] = f"±{report.average:g} ps"
    units = dict(_RULE_UNITS)
    if not isinstance(values.get(report.rule.level_name, ""), str):
        units[report.rule.level_name] = _unit(report.rule.unit)
    return html_settings(values, units)
