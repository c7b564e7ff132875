"""The report of a mined data set: one page with figures and tables."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phaseseg.display import Html, as_html, html_grid, plural
from phaseseg.families.environments.audit import SUSPICIOUS
from phaseseg.families.environments.mining import Mined
from phaseseg.families.environments.mining_figures import (
    coverage_figure,
    drawn_atoms,
    environment_figure,
    labels_figure,
    map_figure,
    new_figure,
    scores_figure,
    umap_points,
)
from phaseseg.families.environments.mining_tables import (
    keys_sentence,
    mined_sentences,
    mined_tables,
    typical_atoms,
)
from phaseseg.families.environments.outliers import FENCE, STRANGE
from phaseseg.fields import Table
from phaseseg.report import html_settings, png, write_report as write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SECTIONS = (
    ("Map", (), ("map", "umap"), ""),
    (
        "Clusters",
        ("clusters",),
        (),
        (
            "Each picture shows the most typical environment of its cluster. The atom itself has a red rim, "
            "atoms of the second species have a dot, and those of the third a ring."
        ),
    ),
    ("Outliers", ("outliers",), ("scores",), ""),
    ("Suspicious labels", ("labels",), ("labels",), ""),
    ("Subset", ("coverage", "subset"), ("coverage",), ""),
    ("Compared with the other set", ("suggestions", "new_groups", "new"), ("new",), ""),
    ("Duplicates", ("duplicates",), (), ""),
    ("Groups", ("groups",), (), ""),
)
"""Heading, tables, figures and a sentence of every section; those with neither are left out."""
MOST_ROWS = 30


def write_report(directory: str | os.PathLike[str], mined: Mined, name: str) -> Path:
    """Write the page with its figures and tables into a folder; return its path.

    name : of the data set, for the heading

    Raises
    ------
    OutputError
        If the folder or a file cannot be written.
    """
    tables = mined_tables(mined)
    data = mined.data
    tiles = [(f"{len(data):,}", "configurations"), (f"{data.n_atoms:,}", "atoms"),
             (f"{mined.duplicates.n_distinct:,}", "distinct environments")]  # fmt: skip
    if mined.clusters is not None:
        tiles.append((f"{mined.clusters.n_clusters:,}", "clusters"))

    def sections(shown: dict[str, str]) -> Iterator[tuple[str, str]]:
        for heading, names, figures, text in SECTIONS:
            body = "".join(shown[figure] for figure in figures if figure in shown)
            body += "<br>".join(
                _html(one, tables[one], mined) for one in names if one in tables and len(tables[one])
            )
            if body:
                yield heading, (f"<p>{as_html(text)}</p>" if text else "") + body
        yield (
            "Settings",
            html_settings({key: "–" if one is None else one for key, one in mined.settings.items()}),
        )

    return write_page(
        directory, title=f"What is in {name}", lead=keys_sentence(data), figures=list(figures_of(mined)),
        tables=tables, sections=sections, messages=[*mined_sentences(mined), *mined.messages], tiles=tiles,
        numbers={"settings": mined.settings, "found": mined_sentences(mined), "tables": tables},
    )  # fmt: skip


def figures_of(mined: Mined) -> Iterator[tuple[str, str, Figure]]:
    """Yield name, caption and figure of everything that can be drawn."""
    atoms = drawn_atoms(mined)
    first, second = mined.explained
    which = "All atoms" if len(atoms) == mined.data.n_atoms else f"{plural(len(atoms), 'atom')} of the set"
    yield (
        "map",
        f"{which} in the plane of the two leading principal components of the {mined.descriptor}, on a "
        f"compressed scale; they have {first:.0%} and {second:.0%} of the variance.".replace("%", " %"),
        map_figure(mined, mined.points[atoms], atoms, ("principal component 1", "principal component 2")),
    )
    if (flat := umap_points(mined.rows[atoms])) is not None:
        caption = "The same atoms by UMAP, which keeps neighbors together. Other distances mean little."
        yield "umap", caption, map_figure(mined, flat, atoms, ("UMAP 1", "UMAP 2"))
    if mined.scores is not None:
        caption = (
            f"Structural outlier scores; 1 is typical. Those are marked that are {STRANGE:g} (dotted) or "
            f"more and above the third quartile of their group by {FENCE:g} interquartile ranges."
        )
        yield "scores", caption, scores_figure(mined)
    if mined.audit is not None:
        caption = (
            "Labels against a robust linear fit to the other configurations, in units of a usual difference; "
            f"above {SUSPICIOUS:g} (dotted), a label is suspicious."
        )
        yield "labels", caption, labels_figure(mined)
    if mined.pruned is not None:
        caption = (
            "Mean distance of all environments to the nearest one of the subset, against the budget. Its "
            "unit is the usual distance between environments of different configurations, which 99 % do "
            f"not exceed. Gray: mean and standard deviation of {len(mined.pruned.random)} random subsets."
        )
        yield "coverage", caption, coverage_figure(mined)
    if mined.comparison is not None:
        caption = (
            "Distance of the environments of the other set from this set, in units of its spacing, within "
            "which 99 % of its atoms have another one. Beyond 1 (dotted), an environment is new."
        )
        yield "new", caption, new_figure(mined)


def _html(name: str, table: Table, mined: Mined) -> Html:
    if name != "clusters":
        return Html(f"<p><b>{as_html(table.title)}</b></p>{table.html(most=MOST_ROWS)}")
    data, atoms = mined.data, typical_atoms(mined)
    rows = []
    for row in table.rows():
        atom = atoms[int(row["cluster"])]
        k = int(data.configurations[atom])
        picture = png(environment_figure(data.frames[k], int(atom - data.starts[k])), dpi=130)
        cluster, *others = row.values()
        rows.append([_pictured(int(cluster), picture), *map(_cell, others)])
    return html_grid(list(table.columns), rows)


def _pictured(cluster: int, picture: bytes) -> Html:
    encoded = base64.b64encode(picture).decode()
    image = f'<img src="data:image/png;base64,{encoded}" alt="cluster {cluster}"'
    return Html(f'{image} style="width:96px; vertical-align:middle"> {cluster}')


def _cell(value: Any) -> str:
    if isinstance(value, str) and " " in value:  # words have lines, so that all columns are in view
        width, text = 8 if len(value) > 24 else 5, as_html(value.replace(" %", "\u00a0%"))
        return Html(f'<div style="white-space:normal;min-width:{width}rem">{text}</div>')
    return (
        f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
    )
