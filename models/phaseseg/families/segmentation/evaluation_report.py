"""An evaluation as files: a page, the figures, the tables and all numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phaseseg.families.segmentation.evaluation import Evaluation
from phaseseg.families.segmentation.evaluation_figures import evaluation_figures
from phaseseg.fields import Table
from phaseseg.io import atomic_output
from phaseseg.report import Picture, html_figure, html_page, html_table, png, write_page, write_parts


def write_evaluation(
    directory: str | os.PathLike[str], result: Evaluation, more: Mapping[str, Any] | None = None
) -> Path:
    """Write `report.html`, the figures (PNG), the tables (CSV) and `metrics.json`.

    Parameters
    ----------
    directory : made if missing; files of these names in it are replaced
    more : further entries of `metrics.json`

    Returns
    -------
    Path
        Of `report.html`.

    Raises
    ------
    OutputError
        If something cannot be written. Every file is whole or not there.
    """
    pictures = [(name, caption, png(figure)) for name, caption, figure in evaluation_figures(result)]
    tables = result.tables()
    folder = write_parts(directory, pictures, tables)
    with atomic_output(folder / "metrics.json") as temporary:
        content = {**(more or {}), **result.to_dict()}
        text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    return write_page(folder, _page(result, tables, pictures))


_SECTIONS = (
    ("Scores", ("scores", "groups"), ("scores",)),
    ("Three classes", (), ("confusion",)),
    ("Reference and prediction", (), ("slices",)),
    ("Two classes", (), ("roc", "reliability")),
    ("Composition", ("composition", "partition"), ("composition",)),
    ("Frames", ("frames",), ()),
    ("Time", ("time",), ()),
)


def _page(result: Evaluation, tables: Mapping[str, Table], pictures: list[Picture]) -> str:
    sections = []
    for heading, names, figures in _SECTIONS:
        body = "<br>".join(html_table(tables[name]) for name in names if name in tables)
        for name, caption, picture in pictures:
            if name in figures or name.partition("_")[0] in figures:
                body += html_figure(name, caption, picture)
        if body:
            sections.append((heading, body))
    pooled = result.pooled()
    title = f"{result.methods[0]} against {result.reference}"
    plural = "s" * (pooled.n_frames > 1)
    agree = int(pooled.verdicts.trace())
    lead = (
        f"{pooled.n_frames} frame{plural}, {pooled.n_atoms:,} atoms; the number of phases agrees in "
        f"{agree} of {pooled.n_frames}. Values ± standard deviation over the frames."
    )
    beside = "The figures (PNG), the tables (CSV) and all numbers\n(metrics.json) lie beside this page."
    return html_page(title, lead, sections, messages=tuple(result.messages), beside=beside)
