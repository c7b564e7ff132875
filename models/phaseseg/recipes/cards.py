"""Cards of checkpoints and the pages generated from them, for the recipes of all families."""

from __future__ import annotations

import re
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from phaseseg.checkpoint import SUFFIX, Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from phaseseg.fields import Table
from phaseseg.io import atomic_output
from phaseseg.report import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[3]
"""Root folder of the sources, which contains docs/ and models/."""

# ------------------------------------------------------------------------------------- in a card


def rounded(value: Any) -> Any:
    """Round to five significant digits; None for undefined values."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.5g}") if isfinite(value) else None
    return value


def table(title: str, rows: Sequence[Mapping[str, Any]], note: str = "") -> dict[str, Any]:
    """Return a table for a card; cells can be missing. A column `± X` is the error of X."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[rounded(row.get(name)) for name in columns] for row in rows]
    return {"title": title, "columns": columns, "rows": cells, "note": note}


def of_table(source: Table, note: str = "") -> dict[str, Any]:
    """Convert a `Table` to a table for a card."""
    return table(source.title, list(source.rows()), note)


def write_card(checkpoint: Checkpoint, card: dict[str, Any], path: Path) -> Checkpoint:
    """Replace the card in a file and leave everything else unchanged.

    Raises
    ------
    CheckpointError
        If weights or settings differ after writing.
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
    """Format a value for a Markdown table."""
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
    """Return the lines of a Markdown table; a column `± X` is printed together with X."""
    shown = [k for k, name in enumerate(columns) if not (name.startswith("± ") and name[2:] in columns)]
    errors = {k: columns.index(f"± {columns[k]}") for k in shown if f"± {columns[k]}" in columns}
    lines = [[columns[k] for k in shown], ["---" for _ in shown]]
    for row in rows:
        line = []
        for k in shown:
            error = row[errors[k]] if k in errors else None
            value = cell(row[k])
            line.append(value if error is None else f"{value} ± {error:.1g}")
        lines.append(line)
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]


def is_table(value: Any) -> bool:
    return isinstance(value, dict) and {"columns", "rows"} <= set(value)


def markdown(value: Any, title: str, level: int) -> list[str]:
    """Convert any part of a card to lines of Markdown."""
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
    """Write a page; create its folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def put_figure(path: Path, figure: Figure, *, dpi: float = 110) -> None:
    """Write a PNG with 256 colors; it is small because figures are stored with the sources."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(BytesIO(png(figure, dpi=dpi))) as picture:
        small = picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
        with atomic_output(path) as temporary:
            small.save(temporary, format="PNG", optimize=True)


def replace_block(text: str, begin: str, end: str, block: str) -> str:
    """Replace the text between two marks, including the marks; unchanged if the marks are missing."""
    marked = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    return marked.sub(lambda _: block, text)


def rows_of(source: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a card table as dictionaries."""
    return [dict(zip(source["columns"], row, strict=True)) for row in source["rows"]]


def last(name: str) -> str:
    """Return `gat-v1` for `segmentation/gat-v1` and for `gat-v1.safetensors`."""
    return name.rpartition("/")[2].removesuffix(SUFFIX)


# ------------------------------------------------------------------------------------ the pages


TITLES = {"test_data": "Test data", "label_rule": "Label rule", "metrics": "Measured"}


@dataclass(frozen=True)
class Pages:
    """Content of the checkpoint pages of a family in addition to the cards.

    recipe : module that generates the pages
    about : returns a paragraph about a checkpoint
    captions : captions of figures, by the suffix of the file name
    order : parts of a card in page order; other parts follow
    mark : name of the family's table in models/README.md
    shelf : rows of this table; cells can be missing
    note : text below this table
    """

    recipe: str
    about: Callable[[Checkpoint], str]
    captions: Mapping[str, str]
    order: Sequence[str]
    mark: str
    shelf: Callable[[Checkpoint], Mapping[str, Any]]
    note: str

    def page(self, checkpoint: Checkpoint, figures: Path) -> str:
        """Return the page of a checkpoint, with the figures that exist."""
        card, stem = checkpoint.card, last(checkpoint.name)
        lines = [
            f"# {checkpoint.name}", "",
            f"<!-- Made by `python -m {self.recipe}` from the card in the checkpoint. -->", "",
            str(card.get("summary", "")), "",
            self.about(checkpoint), "",
            f"    phaseseg models show {checkpoint.name}", "",
        ]  # fmt: skip
        for name, caption in self.captions.items():
            if (figures / f"{stem}-{name}.png").is_file():
                lines += [f"![{caption}](figures/{stem}-{name}.png)", "", caption, ""]
        for key in [*self.order, *(key for key in card if key not in (*self.order, "summary"))]:
            if card.get(key):
                title = TITLES.get(key, key.replace("_", " ").capitalize())
                lines += markdown(card[key], title, 2)
        return "\n".join(lines).rstrip() + "\n"

    def table(self, checkpoints: Sequence[Checkpoint]) -> str:
        """Return the table for models/README.md, including its marks."""
        rows = [
            {"checkpoint": f"[`{one.name}`](../docs/checkpoints/{last(one.name)}.md)",
             "what": one.card.get("summary", ""), **self.shelf(one)}
            for one in checkpoints
        ]  # fmt: skip
        columns = list(dict.fromkeys(name for row in rows for name in row))
        lines = markdown_table(columns, [[row.get(name) for name in columns] for row in rows])
        begin = f"<!-- {self.mark}: made by `python -m {self.recipe}` -->"
        return "\n".join([begin, "", *lines, "", self.note, "", f"<!-- end of {self.mark} -->"])

    def render(self, checkpoints: Sequence[Checkpoint], docs: Path, readme: Path) -> None:
        """Write the pages, their index and the table."""
        for checkpoint in checkpoints:
            put_text(docs / f"{last(checkpoint.name)}.md", self.page(checkpoint, docs / "figures"))
        put_index(docs)
        text, marks = readme.read_text("utf-8"), (f"<!-- {self.mark}: ", f"<!-- end of {self.mark} -->")
        put_text(readme, replace_block(text, *marks, self.table(checkpoints)))


def put_index(docs: Path) -> None:
    """Write `index.md` for a folder of checkpoint pages; pages in subfolders come last."""
    own = sorted(path.stem for path in docs.glob("*.md") if path.stem != "index")
    others = sorted(f"{path.parent.name}/{path.stem}" for path in docs.glob("*/*.md"))
    names = "\n".join([*own, *others])
    about = (
        "Data, accuracy and limits of each network, from its card, which `phaseseg models show NAME` prints\n"
        "too. The recipes in `models/phaseseg/recipes` measure the networks and make these pages."
    )
    toctree = f"```{{toctree}}\n:maxdepth: 1\n\n{names}\n```"
    put_text(docs / "index.md", f"# Checkpoints\n\n{about}\n\n{toctree}\n")


def arguments(description: str | None) -> ArgumentParser:
    """Return a parser with the options shared by the cards of all families."""
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", nargs="+", metavar="NAME", help="only these, such as gat-v1")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "checkpoints")
    parser.add_argument("--readme", type=Path, default=ROOT / "models" / "README.md")
    parser.add_argument("--quick", action="store_true", help="use smaller samples, to test the command")
    parser.add_argument("--render-only", action="store_true", help="generate pages from the existing cards")
    return parser


_BEGIN = perf_counter()


def say(text: str) -> None:
    """Print a line with the seconds since the start."""
    print(f"{perf_counter() - _BEGIN:6.0f} s  {text}", flush=True)


def refuse_training_data(checkpoint: Checkpoint, tests: Iterable[str]) -> None:
    """Make sure that no test run was used for training.

    tests : names of runs as returned by `run_name`

    Raises
    ------
    SystemExit
        If a test run was used for training.
    """
    files = checkpoint.card.get("data", {}).get("files", {"columns": (), "rows": ()})
    used = {run_name(str(row[0])) for row in files["rows"]}
    if both := used & set(tests):
        raise SystemExit(f"{checkpoint.name} was trained on {', '.join(sorted(both))}; test on other runs.")


def run_name(path: str) -> str:
    """Return the name of a run, `slow/ka2d_s016` for `data/slow/ka2d_s016.inherent.xyz.gz`."""
    folder, _, name = path.rpartition("/")
    parent = folder.rpartition("/")[2]
    return (f"{parent}/" if parent else "") + name.partition(".")[0]
