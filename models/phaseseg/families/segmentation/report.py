"""A report: one HTML page that needs nothing beside it, and its figures and tables as files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite
from pathlib import Path

from matplotlib.figure import Figure

from phaseseg.families.segmentation import figures
from phaseseg.families.segmentation.labels.composition_rows import composition_rows, enough_atoms
from phaseseg.families.segmentation.rules import LabelRule, Rule
from phaseseg.families.segmentation.slices import figure_slices
from phaseseg.families.segmentation.trajectory_statistics import Summary, boundary_sentence
from phaseseg.fields import Fields, Table
from phaseseg.frame import Frame
from phaseseg.io import write_table
from phaseseg.report import (
    Picture,
    duration,
    html_figure,
    html_grid,
    html_number,
    html_page,
    html_table,
    png,
    value_and_error,
    write_page,
    write_parts,
)


@dataclass(frozen=True)
class Report:
    """What is to be told about a labeled file.

    summary : of all frames
    rule : how they were labeled
    frame, fields : the one frame that is shown in pictures
    source : name of the file
    boundary_scan : table of `boundary_width_scan`, optional
    average : ±ps over which densities were averaged, optional
    seconds : time that labeling took, optional
    """

    summary: Summary
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


def _bars(summary: Summary) -> str:
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
    pictures = [(name, caption, png(figure)) for name, caption, figure in report_figures(report)]
    tables = report_tables(report)
    folder = write_parts(directory, pictures, tables)
    write_table(folder / "tables.json", tables)
    return write_page(folder, _page(report, tables, pictures))


# ---------------------------------------------------------------------------------------- page


def _page(report: Report, tables: Mapping[str, Table], pictures: Sequence[Picture]) -> str:
    shown = {name: html_figure(name, caption, picture) for name, caption, picture in pictures}
    sections = [
        ("Composition", _composition(tables["composition"]) + shown.pop("composition")),
        ("Where the phases are", shown.pop("slices") + shown.pop("histogram")),
    ]
    if "proxigram" in shown:
        sections.append(("The interface", shown.pop("proxigram")))
    if "partition" in tables:
        note = (
            "<p>Content of the rich over that of the poor phase: the mean of the frames, and the quotient of "
            "the mean contents, which is the better number where an element is scarce.</p>"
            if len(report.summary) > 1
            else "<p>Content of the rich over that of the poor phase.</p>"
        )
        sections.append(("Partition coefficients", note + html_table(_shown_partition(tables))))
    if "domains" in tables:
        sections.append(("Rich domains", html_table(tables["domains"])))
    if "time_series" in shown:
        sections.append(("Along the trajectory", shown.pop("time_series")))
    if report.boundary_scan is not None:
        text = boundary_sentence(report.boundary_scan)
        scan = shown.pop("boundary_scan") + html_table(report.boundary_scan)
        sections.append(("Boundary width", f"<p>{text}</p>{scan}"))
    sections.append(("All numbers", _scalars(tables["scalars"])))
    sections.append(("How it was labeled", _rule(report)))
    return html_page(
        f"Phases of {report.source}",
        _lead(report),
        sections,
        messages=report.summary.messages,
        above=_highlights(tables["scalars"], len(report.summary)),
    )


def _lead(report: Report) -> str:
    n_frames = len(report.summary)
    frames = "1 frame" if n_frames == 1 else f"{n_frames} frames"
    text = f"{frames} of {report.frame.n_atoms:,} atoms"
    if report.seconds is not None:
        text += f", labeled in {duration(report.seconds)}"
    return f"{text}; the rich phase is rich in {escape(' + '.join(report.rule.species))}."


def _highlights(scalars: Table, n_frames: int) -> str:
    rows = {row["name"]: row for row in scalars.rows()}
    share = rows["two_phase_share"]["mean"]
    verdict = ("two phases" if share else "one phase") if n_frames == 1 else f"{share:.0%} of the frames"
    tiles = [(verdict, "verdict" if n_frames == 1 else "of the frames have two phases")]
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
            tiles.append((f"{value_and_error(row['mean'], row['mean ±'])} {_html_unit(row['unit'])}", label))
    items = "".join(f"<li><b>{value}</b><span>{label}</span></li>" for value, label in tiles)
    return f'<ul class="numbers">{items}</ul>'


def _html_unit(unit: str) -> str:
    return "" if " or " in unit else escape(unit).replace("^2", "²").replace("^3", "³").replace("^-3", "⁻³")


def _composition(table: Table) -> str:
    parts = []
    for unit, kind in (("wt%", "mass"), ("at%", "atoms")):
        rows = composition_rows(table, unit)
        if rows:
            header = ["phase", f"share of {kind}", *(f"{name} ({unit})" for name in list(rows[0])[2:])]
            cells = [
                [escape(row["phase"]), *(html_number(*row[name]) for name in list(row)[1:])] for row in rows
            ]
            parts.append(html_grid(header, cells))
    return "<br>".join(parts)


def _shown_partition(tables: Mapping[str, Table]) -> Table:
    """Without coefficients of the bulk where that is a handful of atoms."""
    shown = {row["phase"] for row in tables["composition"].rows() if enough_atoms(row)}
    table = tables["partition"]
    if {"rich bulk", "poor bulk"} <= shown:
        return table
    return Table(table.title, {name: v for name, v in table.columns.items() if "bulk" not in name})


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
    cells = []
    for name, value in values.items():
        if isinstance(value, (tuple, list)):
            value = ", ".join(value)
        unit = _RULE_UNITS.get(name, "")
        if name == report.rule.level_name and not isinstance(value, str):
            unit = _html_unit(report.rule.unit)
        text = f"{value:g}" if isinstance(value, float) else str(value)
        cells.append([f"<code>{escape(name)}</code>", f"{escape(text)} {unit}".rstrip()])
    return html_grid(["parameter", "value"], cells)
