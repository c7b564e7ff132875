"""Building blocks of reports: text tables, figure style and HTML pages.

A report is a folder with one self-contained HTML page; its figures and tables are also separate files.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, wraps
from io import BytesIO
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec
from warnings import catch_warnings, filterwarnings

from phaseseg.display import Html, as_html, html_grid, value_and_error
from phaseseg.fields import Table
from phaseseg.io import OutputError, atomic_output, write_json, write_table
from phaseseg.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")

# ------------------------------------------------------------------------------------- numbers


@dataclass(frozen=True)
class TextTable:
    """A table of formatted cells for a terminal.

    headings : of the columns; the first `n_labels` are left-aligned text, the others right-aligned numbers
    styles : rich styles of the rows; None for a plain row
    ends : rows followed by a line
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    styles: Sequence[str | None] = ()
    ends: Collection[int] = ()
    n_labels: int = 1

    @classmethod
    def of_table(cls, table: Table, title: str, styles: Sequence[str | None]) -> TextTable:
        """Format the values of a table with their errors, under the names of the quantities."""
        names = table.values()
        rows = [
            [
                one if isinstance(one := row[name], str) else value_and_error(one, row.get(name.error, nan))
                for name in names
            ]
            for row in table.rows()
        ]
        return cls(title, [name.quantity for name in names], rows, styles)


def duration(seconds: float) -> str:
    """`0.42 s`, `12 s` or `0:03:20`."""
    if seconds < 60:
        return f"{seconds:.2g} s"
    return str(timedelta(seconds=round(seconds)))


# ------------------------------------------------------------------------------------- figures

INK, GRAY = "#222222", "#8a8a8a"


@cache
def _style() -> Any:
    import matplotlib as mpl

    # Start from matplotlib's defaults, so that figures do not depend on the user's settings.
    defaults = {name: value for name, value in mpl.rcParamsDefault.items() if not name.startswith("backend")}
    return defaults | {
        "font.family": "DejaVu Sans", "font.size": 9.0, "axes.titlesize": 9.5, "axes.labelsize": 9.5,
        "axes.linewidth": 0.8, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK,
        "xtick.color": INK, "ytick.color": INK, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5,
        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
        "legend.fontsize": 8.5, "figure.facecolor": "white", "savefig.facecolor": "white",
        "lines.linewidth": 1.4,
    }  # fmt: skip


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the style of this package, independent of the user's matplotlib settings."""

    @wraps(draw)
    def drawn(*args: P.args, **options: P.kwargs) -> Figure:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        with mpl.rc_context(_style()):
            figure = draw(*args, **options)
            FigureCanvasAgg(figure)
            return figure

    return drawn


def png(figure: Figure, dpi: float = 170) -> bytes:
    """Return the figure as PNG bytes, which are the same for the same figure."""
    import matplotlib as mpl

    stream = BytesIO()
    with mpl.rc_context(_style()), catch_warnings():
        filterwarnings("ignore", "Glyph", UserWarning)  # of a name in a script that the font lacks
        figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def as_label(text: str) -> str:
    """Return a text that figures show as it is: matplotlib reads $ as mathematics and hides _x in legends."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


# --------------------------------------------------------------------------------------- files


def write_report(
    directory: str | os.PathLike[str],
    *,
    title: str,
    lead: str,
    figures: Iterable[tuple[str, str, Figure]],
    tables: Mapping[str, Table],
    sections: Callable[[dict[str, str]], Iterable[tuple[str, str]]],
    messages: Sequence[str] = (),
    tiles: Iterable[tuple[str, str]] = (),
    numbers: Mapping[str, Any] | None = None,
) -> Path:
    """Write `report.html`, the figures (PNG), the tables (CSV), and the tables or all numbers as JSON.

    Returns the path of the page, which embeds its figures and works offline. No partial files are left
    behind; a file that cannot be written raises OutputError.

    directory : created if missing; existing files with the same names are replaced
    title, lead, messages : plain text; `lead` stands below the title
    figures : name, caption and figure, in the order of the page
    tables : by name
    sections : function of the figures (HTML by name) that yields heading and content (HTML) of each section
    tiles : key numbers at the top of the page, as pairs of texts: value and label
    numbers : content of `metrics.json`; if left out, the tables go into `tables.json`
    """
    pictures = [(name, caption, png(figure)) for name, caption, figure in figures]
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: the folder of the report cannot be created ({error.strerror})."
        ) from error
    for name, _, picture in pictures:
        with atomic_output(folder / f"{name}.png") as temporary:
            temporary.write_bytes(picture)
    for name, table in tables.items():
        write_table(folder / f"{name}.csv", table)
    if numbers is None:
        write_table(folder / "tables.json", tables)
        files = "The figures (PNG) and tables (CSV, JSON)"
    else:
        write_json(folder / "metrics.json", numbers)
        files = "The figures (PNG), the tables (CSV) and all numbers (metrics.json)"
    shown = {name: _html_figure(name, caption, picture) for name, caption, picture in pictures}
    boxes = "".join(
        f"<li><b>{as_html(value)}</b><span>{as_html(label)}</span></li>" for value, label in tiles
    )
    items = "".join(f"<li>{as_html(sentence)}</li>" for sentence in messages)
    body = "\n".join(
        f"<section><h2>{as_html(heading)}</h2>\n{content}</section>" for heading, content in sections(shown)
    )
    with atomic_output(folder / "report.html") as temporary:
        temporary.write_text(
            PAGE.format(
                title=as_html(title), style=CSS, lead=as_html(lead), body=body, files=files,
                version=as_html(__version__), tiles=f'<ul class="numbers">{boxes}</ul>' if boxes else "",
                messages=f'<ul class="messages">{items}</ul>' if items else "",
            ),
            encoding="utf-8",
        )  # fmt: skip
    return folder / "report.html"


def write_evaluation(
    directory: str | os.PathLike[str],
    title: str,
    lead: str,
    sections: Sequence[tuple[str, Sequence[str], Sequence[str]]],
    figures: Iterable[tuple[str, str, Figure]],
    tables: Mapping[str, Table],
    numbers: Mapping[str, Any],
    messages: Sequence[str] = (),
) -> Path:
    """Write the report of an evaluation, as `write_report`, with all numbers in `metrics.json`.

    sections : heading, names of tables, and names of figures or their part before the first `_`; missing
        tables and figures are skipped
    """

    def filled(shown: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        for heading, names, drawn in sections:
            body = "<br>".join(tables[name].html() for name in names if name in tables)
            for name, figure in shown.items():
                if name in drawn or name.partition("_")[0] in drawn:
                    body += figure
            if body:
                yield heading, body

    return write_report(
        directory, title=title, lead=lead, figures=figures, tables=tables, sections=filled,
        messages=messages, numbers=numbers,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------- page

CSS = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #222; background: #fff;
  max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid #ddd; }
p.lead { color: #555; margin: 0 0 1.2rem; }
.numbers { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.2rem 0; padding: 0; list-style: none; }
.numbers li { border: 1px solid #ddd; border-radius: 6px; padding: .55rem .9rem; min-width: 8rem; }
.numbers b { display: block; font-size: 1.15rem; font-weight: 600; white-space: nowrap; }
.numbers span { color: #555; font-size: .82rem; }
ul.messages { background: #f7f5ee; border-left: 4px solid #d9781f; margin: 1rem 0;
  padding: .7rem 1rem .7rem 2rem; }
figure { margin: 1.4rem 0 2rem; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { color: #555; font-size: .88rem; margin-top: .4rem; max-width: 48rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #e6e6e6; white-space: nowrap; }
thead th { border-bottom: 2px solid #999; font-weight: 600; white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td small { color: #777; }
footer { margin-top: 3rem; color: #777; font-size: .85rem; }
code { font-size: .9em; }
@media print { body { max-width: none; padding: 0; } h2 { break-after: avoid; }
  figure { break-inside: avoid; } }
"""


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p class="lead">{lead}</p>
{tiles}
{messages}
{body}
<footer>Made by phaseseg {version}. {files} are in the folder of this page.</footer>
</body>
</html>
"""


def _html_figure(name: str, caption: str, picture: bytes) -> str:
    encoded = base64.b64encode(picture).decode()
    width = int.from_bytes(picture[16:20], "big")  # from the PNG header
    return (
        f'<figure><img src="data:image/png;base64,{encoded}" alt="{as_html(caption)}" '
        f'style="width:{width / 170 * 96 * 1.15:.0f}px" id="{as_html(name)}">'
        f"<figcaption>{as_html(caption)}</figcaption></figure>"
    )


def add_section(page: Path, heading: str, content: str) -> None:
    """Add a section at the end of a report that was written.

    content : HTML
    """
    before, footer, after = page.read_text("utf-8").rpartition("<footer>")
    with atomic_output(page) as temporary:
        section = f"<section><h2>{as_html(heading)}</h2>\n{content}</section>\n"
        temporary.write_text(f"{before}{section}{footer}{after}", encoding="utf-8")


def html_settings(settings: Mapping[str, Any], units: Mapping[str, str] | None = None) -> str:
    """Return an HTML table of parameters and their values with units."""
    cells = []
    for name, value in settings.items():
        text = ", ".join(map(str, value)) if isinstance(value, tuple | list) else value
        text = f"{text:g}" if isinstance(text, float) else text
        unit = (units or {}).get(name, "")
        cells.append([Html(f"<code>{as_html(name)}</code>"), f"{text} {unit}".rstrip()])
    return html_grid(["parameter", "value"], cells)
