"""Cards of checkpoints: tables of plain values in them, and the pages that are made from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phaseseg.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from phaseseg.fields import Table
from phaseseg.io import atomic_output
from phaseseg.report import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# ------------------------------------------------------------------------------------- in a card


def rounded(value: Any) -> Any:
    """Five figures; None for what has no value."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.5g}") if isfinite(value) else None
    return value


def table(title: str, rows: Sequence[Mapping[str, Any]], note: str = "") -> dict[str, Any]:
    """A table of a card; a row lacks what it does not name. A column `± X` is the error of X."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[rounded(row.get(name)) for name in columns] for row in rows]
    return {"title": title, "columns": columns, "rows": cells, "note": note}


def of_table(source: Table, note: str = "") -> dict[str, Any]:
    """A `Table` as one of a card."""
    return table(source.title, list(source.rows()), note)


def write_card(checkpoint: Checkpoint, card: dict[str, Any], path: Path) -> Checkpoint:
    """Replace the card in a file; everything else stays.

    Raises
    ------
    CheckpointError
        If weights or settings are not what they were.
    """
    save_checkpoint(replace(checkpoint, card=card), path)
    again = load_checkpoint(path)
    same = again.weights.keys() == checkpoint.weights.keys() and all(
        np.array_equal(again.weights[key], checkpoint.weights[key]) for key in again.weights
    )
    if not same or again.config != checkpoint.config:
        raise CheckpointError(f"{path}: weights or settings have changed; restore the file.")
    return again


# -------------------------------------------------------------------------------------- in a page


def cell(value: Any) -> str:
    """A value in a table of Markdown."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if 0.999 < abs(value) < 1:
            return f"{value:.5f}"
        text = f"{value:.4f}" if 0.001 <= abs(value) < 10 else f"{value:.4g}"
        return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
    if isinstance(value, list):
        return ", ".join(map(cell, value))
    return str(value).replace("|", "\\|").replace("\n", " ")


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Rows of Markdown; a column `± X` stands beside X."""
    shown = [k for k, name in enumerate(columns) if not (name.startswith("± ") and name[2:] in columns)]
    beside = {k: columns.index(f"± {columns[k]}") for k in shown if f"± {columns[k]}" in columns}
    lines = [[columns[k] for k in shown], ["---" for _ in shown]]
    for row in rows:
        line = []
        for k in shown:
            error = row[beside[k]] if k in beside else None
            value = cell(row[k])
            line.append(value if error is None else f"{value} ± {error:.1g}")
        lines.append(line)
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]


def is_table(value: Any) -> bool:
    return isinstance(value, dict) and {"columns", "rows"} <= set(value)


def markdown(value: Any, title: str, level: int) -> list[str]:
    """Any part of a card as lines of Markdown, by its shape."""
    heading = f"{'#' * level} {title}"
    if is_table(value):
        lines = [f"{'#' * level} {value.get('title') or title}", ""]
        lines += markdown_table(value["columns"], value["rows"])
        return [*lines, "", value["note"], ""] if value.get("note") else [*lines, ""]
    if isinstance(value, dict):
        lines = [heading, ""]
        plain = {key: one for key, one in value.items() if not isinstance(one, dict)}
        lines += [f"- {key.replace('_', ' ')}: {cell(one)}" for key, one in plain.items()]
        lines += [""] if plain else []
        for key, one in value.items():
            if isinstance(one, dict):
                lines += markdown(one, key.replace("_", " "), level + 1)
        return lines
    if isinstance(value, list):
        return [heading, "", *(f"- {cell(one)}" for one in value), ""]
    return [heading, "", cell(value), ""]


def put_text(path: Path, text: str) -> None:
    """Write a page; its folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def put_figure(path: Path, figure: Figure, *, dpi: float = 110) -> None:
    """A small PNG of 256 colors, as figures are kept with the sources."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(BytesIO(png(figure, dpi=dpi))) as picture:
        small = picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
        with atomic_output(path) as temporary:
            small.save(temporary, format="PNG", optimize=True)


def put_index(docs: Path) -> None:
    """`index.md` of a folder of pages of checkpoints, those of subfolders after the others."""
    own = sorted(path.stem for path in docs.glob("*.md") if path.stem != "index")
    others = sorted(f"{path.parent.name}/{path.stem}" for path in docs.glob("*/*.md"))
    names = "\n".join([*own, *others])
    about = (
        "What each network was made from, how good it is and where it fails; measured by\n"
        "`cards.py` in the folders of `models/recipes`, and also printed by\n"
        "`phaseseg models show NAME`."
    )
    toctree = f"```{{toctree}}\n:maxdepth: 1\n\n{names}\n```"
    put_text(docs / "index.md", f"# Checkpoints\n\n{about}\n\n{toctree}\n")


def replace_block(text: str, begin: str, end: str, block: str) -> str:
    """The text with all between two marks, and these, replaced; as it is where the marks are not there."""
    marked = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    return marked.sub(lambda _: block, text)
