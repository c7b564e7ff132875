"""What the words of the command line share: options, errors and exit codes, bars, and what is printed."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from phaseseg.families.segmentation.rules import LabelRule, Rule
from phaseseg.version import __version__

if TYPE_CHECKING:
    from phaseseg.families.segmentation.report import Report
    from phaseseg.fields import Fields, Table
    from phaseseg.frame import Frame
    from phaseseg.report import TextTable

FAILURE, USAGE, INPUT, INTERRUPTED = 1, 2, 3, 130

# ------------------------------------------------------------------------------------- options

Input = Annotated[
    Path,
    typer.Argument(help="LAMMPS dump, extended XYZ, POSCAR, XDATCAR, GRO or what ASE reads; gz too."),
]
Trajectories = Annotated[list[Path], typer.Argument(help="Trajectories: whatever `phaseseg label` reads.")]
Species = Annotated[str, typer.Option(help="What the rich phase is rich in; several with commas.")]
Types = Annotated[str | None, typer.Option(help="Species of the types 1, 2, ... of a dump: Fe,Mg,Si,O,N.")]
Frames = Annotated[str | None, typer.Option(help="Which frames of a file, from 0: start:stop:step.")]
TimeStep = Annotated[float | None, typer.Option(help="ps per MD step, where the file holds no times.")]
Format = Annotated[str | None, typer.Option(help="Format of INPUT where its name does not tell.")]
Keep = Annotated[str, typer.Option(help="Rich domains that count: all | largest")]
BulkDistance = Annotated[float, typer.Option(help="Distance from which on a phase is bulk, Å.")]
Model = Annotated[
    str, typer.Option("--model", "-m", help="Name of a checkpoint (`phaseseg models list`) or its file.")
]
Device = Annotated[str, typer.Option(help="auto | cpu | torch (on the processor) | cuda (torch on a GPU)")]
ReportFolder = Annotated[Path | None, typer.Option(help="Folder for an HTML report, figures and tables.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable results on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]


# ------------------------------------------------------------------------------------- errors


class UsageError(Exception):
    """Arguments that cannot be meant."""


@contextmanager
def exit_codes(kept: str = "") -> Iterator[None]:
    """Turn errors into one sentence on standard error and an exit code.

    kept : what an interruption leaves behind, as a sentence
    """
    from phaseseg.io import InputError, OutputError

    def stop(code: int, sentence: str) -> typer.Exit:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"phaseseg: {sentence}", markup=False, style="red" if code != INTERRUPTED else None
        )
        return typer.Exit(code)

    try:
        yield
    except UsageError as error:
        raise stop(USAGE, str(error)) from None
    except KeyboardInterrupt as error:
        raise stop(INTERRUPTED, f"interrupted. {str(error) or kept}".rstrip()) from None
    except OutputError as error:
        raise stop(FAILURE, str(error)) from None
    except (InputError, ValueError) as error:
        raise stop(INPUT, str(error)) from None
    except BrokenPipeError:
        raise typer.Exit(FAILURE) from None
    except (OSError, ImportError, RuntimeError) as error:
        raise stop(FAILURE, str(error) or type(error).__name__) from None
    except MemoryError:
        raise stop(FAILURE, "memory ran out; choose a larger --voxel or fewer --workers.") from None


@contextmanager
def usage_errors() -> Iterator[None]:
    """Within, a ValueError is about the arguments; one about the input stays what it is."""
    from phaseseg.io import InputError

    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from None


# ---------------------------------------------------------------------------------- arguments


def split_names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in text.split(","))


def number_or_name(text: str) -> Any:
    """A threshold: a number, or the name of a rule."""
    try:
        return float(text)
    except ValueError:
        return text


def output_kind(output: Path | None, source: Path) -> str:
    """ "frames", "tables" or "" for none; what cannot be written is refused before the work starts."""
    if output is None:
        return ""
    if output.exists() and source.exists() and output.samefile(source):
        raise ValueError(f"{output} is the input; give the output another name.")
    if output.is_dir() or not output.parent.is_dir():
        raise ValueError(
            f"{output}: " + ("this is a folder." if output.is_dir() else "its folder does not exist.")
        )
    name = output.name.lower()
    if name.endswith((".csv", ".json")):
        return "tables"
    name = name.removesuffix(".gz")
    if name.endswith((".xyz", ".extxyz", ".lammpstrj")) or ".dump" in name or name.startswith("dump."):
        return "frames"
    if output.exists() and not output.is_file():  # a device or pipe
        raise ValueError(f"{output}: its name does not tell a format.")
    raise ValueError(
        f"{output.name}: the name does not tell a format; use .xyz, .extxyz, .dump or .lammpstrj (each also "
        "with .gz) for labeled frames, .csv or .json for tables."
    )


def frame_reader(
    path: Path, types: str | None, frames: str | None, dt: float | None, file_format: str | None,
    fields: bool, units: str | None = None,
) -> Callable[[], Iterator[Frame]]:  # fmt: skip
    """Reads the chosen frames of a file anew with every call."""
    from phaseseg.io import read_frames

    chosen = None
    if frames is not None:
        try:
            parts = [int(part) if part.strip() else None for part in frames.split(":")]
            if len(parts) > 3:
                raise ValueError
        except ValueError:
            raise ValueError(f"--frames must be start:stop:step, as 0:100:10, found {frames!r}.") from None
        if len(parts) == 1:  # one number is one frame
            first = parts[0] or 0
            parts = [first, first + 1 if first != -1 else None]
        chosen = slice(*parts)
    names = None if types is None else split_names(types)
    return partial(
        read_frames,
        path,
        types=names,
        frames=chosen,
        dt=dt,
        fields=fields,
        same_atoms=True,
        file_format=file_format,
        units="metal" if units is None else units,  # type: ignore[arg-type]
    )


# ------------------------------------------------------------------------- bars and sentences


@contextmanager
def frame_progress(name: str, shown: bool) -> Iterator[Callable[..., Iterator[Any]]]:
    """A function that passes frames on and counts them on a bar, on a terminal only."""
    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield lambda items, *_: iter(items)
        return
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,} frames"),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:

        def counted(items: Iterable[Any], doing: str, seconds: int = 15) -> Iterator[Any]:
            first_use = f"the first use on a machine compiles for some {seconds} s"
            task = progress.add_task(f"{name}: {doing}; {first_use}", total=None)
            for item in items:
                progress.update(task, advance=1, description=f"{name}: {doing}")
                yield item
            progress.remove_task(task)

        yield counted


def note(sentence: str) -> None:
    """One sentence on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(sentence, markup=False)


def results_console() -> Console:
    """Standard output, for tables."""
    console = Console(highlight=False)
    # A file or pipe has no width to keep to.
    return console if console.is_terminal else Console(highlight=False, width=200)


# --------------------------------------------------------------------------- frames of a file


class Labeling:
    """One pass over the frames of a file, and what is kept of it.

    label : gives the fields of a frame in place of the rule's weak labels
    done : what happened to the frames, in a word
    settings : what the results say of how they were made, beside the rule
    """

    def __init__(
        self,
        source: str,
        rule: Rule,
        *,
        label: Callable[[Frame], Fields] | None = None,
        done: str = "labeled",
        settings: Mapping[str, Any] | None = None,
        average: float | None = None,
        workers: int = 1,
        scan: bool = False,
    ) -> None:
        from phaseseg.families.segmentation.trajectory_statistics import BoundaryScan, TrajectorySummary

        self.source, self.rule, self.average, self.workers = source, rule, average, workers
        self.label, self.done = label, done
        self.settings = rule.to_dict() | dict(settings or {})
        if isinstance(rule, LabelRule):
            self.settings |= {"voxel": rule.voxel_size, "average": average}
        self.summary = TrajectorySummary(rule, source)
        self.scan = BoundaryScan(rule.species) if scan else None
        self.seconds = 0.0
        self.shown: tuple[Frame, Fields] | None = None

    def results(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Fields]]:
        """Label the frames in order; `seconds` counts reading and labeling, not what the caller does."""
        pairs = self._pairs(frames)
        while True:
            start = perf_counter()
            pair = next(pairs, None)
            self.seconds += perf_counter() - start
            if pair is None:
                break
            self.summary.add(*pair)
            if self.scan is not None:
                self.scan.add(*pair)
            # The last frame of two phases is the one to look at.
            if self.shown is None or pair[1]["n_domains"] or not self.shown[1]["n_domains"]:
                self.shown = pair
            yield pair
        if self.shown is None:
            raise ValueError(f"{self.source}: there are no frames to label.")

    def _pairs(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Fields]]:
        from phaseseg.families.segmentation.labels.weak_labels import label_frame, label_trajectory
        from phaseseg.trajectory import map_frames

        function = self.label
        if function is None:
            assert isinstance(self.rule, LabelRule)
            if self.workers == 1 or self.average is not None:
                yield from label_trajectory(frames, self.rule, average=self.average)
                return
            function = partial(label_frame, rule=self.rule)
        waiting: deque[Frame] = deque()

        def read() -> Iterator[Frame]:
            for frame in frames:
                waiting.append(frame)
                yield frame

        for fields in map_frames(function, read(), workers=self.workers):
            yield waiting.popleft(), fields

    def report(self) -> Report:
        from phaseseg.families.segmentation.report import Report

        assert self.shown is not None
        scan = None if self.scan is None else self.scan.table()
        return Report(
            self.summary, self.rule, *self.shown, source=self.source, boundary_scan=scan,
            average=self.average, seconds=self.seconds,
        )  # fmt: skip


def write_or_drop(results: Iterable[tuple[Frame, Fields]], output: Path | None) -> None:
    """Take all results, and write the frames where an output is given."""
    if output is None:
        deque(results, maxlen=0)
        return
    from phaseseg.io import write_frames

    write_frames(output, results)


def finish(run: Labeling, tables_to: Path | None, folder: Path | None, *, as_json: bool, quiet: bool) -> None:
    """Tables, report, and what is printed."""
    from phaseseg.families.segmentation.trajectory_statistics import boundary_message
    from phaseseg.report import duration

    tables = run.summary.tables()
    messages = list(run.summary.messages)
    if run.scan is not None:
        tables["boundary_scan"] = run.scan.table()
        messages.append(boundary_message(tables["boundary_scan"]))
    if tables_to is not None:
        _write_tables(tables_to, tables, _results(run, tables, messages))
    if folder is not None:
        from phaseseg.families.segmentation.report import write_report

        page = write_report(folder, run.report())
        if not quiet:
            note(f"Written: {page}")
    if as_json:
        typer.echo(json.dumps(_results(run, tables, messages), ensure_ascii=False, allow_nan=False))
    if not quiet:
        for sentence in messages:
            note(sentence)
        if not as_json:
            for shown in run.summary.shown():
                print_table(shown)
        note(
            f"{len(run.summary):,} frame{'s' * (len(run.summary) > 1)} {run.done} in {duration(run.seconds)}."
        )


def _write_tables(path: Path, tables: Mapping[str, Table], results: Mapping[str, Any]) -> None:
    from phaseseg.io import write_json, write_table

    if path.suffix.lower() == ".json":
        write_json(path, results)
        return
    others = {name: table for name, table in tables.items() if name != "composition"}
    write_table(path, tables["composition"])
    write_table(path, others)


def _results(run: Labeling, tables: Mapping[str, Table], messages: Sequence[str]) -> dict[str, Any]:
    """What `--json` prints: plain values, and null for what is not a finite number."""
    from phaseseg.fields import plain

    return {
        "version": __version__,
        "input": run.source,
        "frames": len(run.summary),
        "seconds": run.seconds,
        "rule": run.settings,
        "messages": messages,
        "tables": plain(tables),
    }


def print_table(shown: TextTable) -> None:
    """A table on standard output."""
    from rich.table import Table as RichTable

    table = RichTable(title=shown.title, title_justify="left", title_style="bold")
    for k, heading in enumerate(shown.headings):
        number = k >= shown.n_labels
        table.add_column(heading, justify="right" if number else "left", no_wrap=number)
    for k, row in enumerate(shown.rows):
        style = shown.styles[k] if k < len(shown.styles) else None
        table.add_row(*row, style=style, end_section=k in shown.ends)
    results_console().print(table)
