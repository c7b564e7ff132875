"""What `phaseseg predict` does with networks that tell liquid from glass."""

from __future__ import annotations

import gzip
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import IO, TYPE_CHECKING, Any

import typer

from phaseseg.cli.console import note, results_console
from phaseseg.version import __version__

if TYPE_CHECKING:
    from phaseseg.families.liquid_glass.rules import GlassRule
    from phaseseg.fields import Fields, Table
    from phaseseg.frame import Frame

COLUMNS = ("frame", "i", "j", "shift_a", "shift_b", "shift_c", "attention", "bb", "kept")
# Rows that are printed; of more frames the first and the last.
MOST_ROWS = 40
# Rows of edges that are written at a time.
CHUNK = 1 << 16


def check_edges(path: Path | None, source: Path, output: Path | None) -> None:
    """Raise ValueError for a file of edges that cannot be written."""
    if path is None:
        return
    if not path.name.lower().removesuffix(".gz").endswith(".csv"):
        raise ValueError(f"{path.name}: edges are written as .csv or .csv.gz.")
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(
            f"{path}: " + ("this is a folder." if path.is_dir() else "its folder does not exist.")
        )
    for other, what in ((source, "the input"), (output, "the output")):
        if other is not None and path.resolve() == other.resolve():
            raise ValueError(f"{path} is {what}; give the edges another name.")


@contextmanager
def edges_file(path: Path | None) -> Iterator[IO[bytes] | None]:
    """A file for edges, with its header; it is there when all has gone well. None without a path."""
    if path is None:
        yield None
        return
    from phaseseg.io import atomic_output

    with atomic_output(path) as temporary, temporary.open("wb") as plain:
        header = (",".join(COLUMNS) + "\n").encode()
        if not path.name.lower().endswith(".gz"):
            plain.write(header)
            yield plain
            return
        # No name and no date inside: the same edges give the same bytes.
        with gzip.GzipFile("", "wb", compresslevel=4, fileobj=plain, mtime=0) as packed:
            packed.write(header)
            yield packed  # type: ignore[misc]


def _write_edges(file: IO[bytes], number: int, frame: Frame, fields: Fields) -> None:
    """The edges of a frame: ids of the particles, the images of the second, and what is known."""
    import numpy as np

    bonds = fields["attention_bonds"]
    ids = np.arange(1, frame.n_atoms + 1) if frame.ids is None else frame.ids
    columns = [
        ids[bonds.atoms[:, 0]], ids[bonds.atoms[:, 1]], *bonds.shifts.T, bonds.columns["attention"],
        bonds.columns["bb"], bonds.columns["kept"],
    ]  # fmt: skip
    for first in range(0, len(bonds), CHUNK):
        part = [column[first : first + CHUNK].tolist() for column in columns]
        rows = (
            f"{number},{i},{j},{a},{b},{c},{w:.7g},{bb},{kept}\n"
            for i, j, a, b, c, w, bb, kept in zip(*part, strict=True)
        )
        file.write("".join(rows).encode())


class GlassRun:
    """One pass over the frames of a file, and what is kept of it.

    label : gives the fields of a frame
    edges : file for the edges
    settings : what the results say of how they were made, beside the rule
    """

    def __init__(
        self,
        source: str,
        rule: GlassRule,
        label: Callable[[Frame], Fields],
        *,
        workers: int = 1,
        edges: IO[bytes] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        from phaseseg.fields import MessageCounter

        self.source, self.rule, self.label = source, rule, label
        self.workers, self.edges = workers, edges
        self.settings = rule.to_dict() | dict(settings or {})
        self.seconds = 0.0
        self._rows: list[dict[str, Any]] = []
        self._messages = MessageCounter()

    def __len__(self) -> int:
        return len(self._rows)

    def results(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Fields]]:
        """Predict the frames in order; `seconds` counts reading and predicting, not what the caller does."""
        pairs = self._pairs(frames)
        while True:
            start = perf_counter()
            pair = next(pairs, None)
            self.seconds += perf_counter() - start
            if pair is None:
                break
            self._add(*pair)
            yield pair
        if not self._rows:
            raise ValueError(f"{self.source}: there are no frames to predict.")

    def _pairs(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Fields]]:
        from phaseseg.trajectory import map_frames

        waiting: deque[Frame] = deque()

        def read() -> Iterator[Frame]:
            for frame in frames:
                waiting.append(frame)
                yield frame

        for fields in map_frames(self.label, read(), workers=self.workers):
            yield waiting.popleft(), fields

    def _add(self, frame: Frame, fields: Fields) -> None:
        number = len(self._rows)
        if self.edges is not None:
            _write_edges(self.edges, number, frame, fields)
        known = fields.level("frame")
        state = "glass" if known["frame_glass_probability"] >= self.rule.threshold else "liquid"
        row: dict[str, Any] = {"frame": number}
        if frame.timestep is not None:
            row["timestep"] = frame.timestep
        if frame.time is not None:
            row["time"] = frame.time
        own = {key: value for key, value in frame.info.items() if key not in known}
        self._rows.append({**row, **own, "state": state, **known})
        # The first sentence is what the row says.
        self._messages.add(fields.messages[1:])

    @property
    def messages(self) -> list[str]:
        """What the user should know, each kind of message once."""
        return list(self._messages.messages())

    def table(self) -> Table:
        """A row a frame: what the file says of it, and what the networks do."""
        from phaseseg.fields import Table

        names = list(dict.fromkeys(name for row in self._rows for name in row))
        # What belongs to the file stays in front, also where the first frames lack it.
        order = {name: n for n, name in enumerate(names)}
        first = [name for name in names if name not in self._predicted]
        names = sorted(first, key=order.__getitem__) + [name for name in names if name in self._predicted]
        return Table.of_rows(f"Liquid or glass by {self.rule.model}", self._rows, names)

    @property
    def _predicted(self) -> set[str]:
        from phaseseg.specs import FIELD_SPECS

        return {"state", *FIELD_SPECS}


def finish(run: GlassRun, tables_to: Path | None, *, as_json: bool, quiet: bool) -> None:
    """Tables, and what is printed."""
    from phaseseg.io import write_json, write_table
    from phaseseg.report import duration

    table = run.table()
    if tables_to is not None and tables_to.suffix.lower() == ".csv":
        write_table(tables_to, table)
    elif tables_to is not None:
        write_json(tables_to, _content(run, table))
    if as_json:
        typer.echo(json.dumps(_content(run, table), ensure_ascii=False, allow_nan=False))
    if quiet:
        return
    if not as_json:
        _print(table, run.source)
    for sentence in run.messages:
        note(sentence)
    note(f"{len(run):,} frame{'s' * (len(run) > 1)} predicted in {duration(run.seconds)}.")


def _content(run: GlassRun, table: Table) -> dict[str, Any]:
    """What `--json` prints: plain values, and null for what is not a finite number."""
    from phaseseg.fields import plain

    return {
        "version": __version__,
        "input": run.source,
        "frames": len(run),
        "seconds": run.seconds,
        "rule": run.settings,
        "messages": run.messages,
        "tables": plain({"frames": table}),
    }


_HEADINGS = {
    "frame": "frame", "temperature": "T", "state": "state", "frame_glass_probability": "p(glass)",
    "frame_glass_uncertainty": "±", "glass_fraction": "glassy particles",
    "attention_n_disjoint_graphs": "attention graphs", "attention_n_bb_edges": "B–B edges",
    "attention_n_isolated_a": "isolated A",
}  # fmt: skip


def _print(table: Table, name: str) -> None:
    from rich.table import Table as RichTable

    shown = RichTable(title=f"{name}: {table.title}", title_justify="left", title_style="bold")
    columns = [column for column in _HEADINGS if column in table.columns]
    for column in columns:
        shown.add_column(_HEADINGS[column], justify="left" if column == "state" else "right", no_wrap=True)
    rows = list(table.rows())
    hidden = len(rows) - MOST_ROWS
    for n, row in enumerate(rows):
        if hidden > 0 and MOST_ROWS // 2 <= n < len(rows) - MOST_ROWS // 2:
            if n == MOST_ROWS // 2:
                shown.add_row(*("…" for _ in columns))
            continue
        style = "steel_blue" if row["state"] == "glass" else "dark_orange3"
        shown.add_row(*(_shown(column, row[column]) for column in columns), style=style)
    results_console().print(shown)


def _shown(column: str, value: Any) -> str:
    if isinstance(value, float) and not isfinite(value):
        return "–"
    if column in ("frame_glass_probability", "frame_glass_uncertainty", "glass_fraction"):
        return f"{value:.3f}"
    return f"{value:g}" if isinstance(value, float) else str(value)
