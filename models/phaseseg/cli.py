"""The command line: `phaseseg label`, `demo`, `simulate`, `models`.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 a failure (disk
full, missing package), 2 bad usage, 3 bad input, 130 interrupted. Heavy imports happen inside the
commands, so that `--help` is quick.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

import phaseseg
from phaseseg.cli_evaluate import evaluate_command, select_command
from phaseseg.cli_models import models_app
from phaseseg.cli_predict import predict_command
from phaseseg.cli_train import train_app
from phaseseg.families.segmentation.config import LabelRule, Rule

if TYPE_CHECKING:
    from phaseseg.families.segmentation.report import Report
    from phaseseg.fields import Fields, Table
    from phaseseg.frame import Frame

FAILURE, USAGE, INPUT, INTERRUPTED = 1, 2, 3, 130
DEFAULT = LabelRule()

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Tell two liquids apart, atom by atom: phases, composition and interface of melts.",
)  # fmt: skip
simulate_app = typer.Typer(no_args_is_help=True, help="Make trajectories to try things on.")
app.add_typer(simulate_app, name="simulate")
app.add_typer(models_app, name="models")
app.add_typer(train_app, name="train")
app.command("predict")(predict_command)
app.command("evaluate")(evaluate_command)
app.command("select")(select_command)


def main() -> None:
    """Entry point of the `phaseseg` command."""
    app()


class _UsageError(Exception):
    """Arguments that cannot be meant."""


@contextmanager
def _exit_codes(kept: str = "") -> Iterator[None]:
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
    except _UsageError as error:
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
def _usage() -> Iterator[None]:
    """Within, a ValueError is about the arguments; one about the input stays what it is."""
    from phaseseg.io import InputError

    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        raise _UsageError(str(error)) from None


def _version(show: bool) -> None:
    if show:
        typer.echo(f"phaseseg {phaseseg.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


# --------------------------------------------------------------------------------------- label


class _Labeling:
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
        from phaseseg.families.segmentation.series import BoundaryScan, Summary

        self.source, self.rule, self.average, self.workers = source, rule, average, workers
        self.label, self.done = label, done
        self.settings = rule.to_dict() | dict(settings or {})
        if isinstance(rule, LabelRule):
            self.settings |= {"voxel": rule.voxel_size, "average": average}
        self.summary = Summary(rule)
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
        from phaseseg.families.segmentation.labels import label_frame, label_trajectory
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


@app.command()
def label(
    input: Annotated[
        Path,
        typer.Argument(help="LAMMPS dump, extended XYZ, POSCAR, XDATCAR, GRO or what ASE reads; gz too."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Labeled frames (.xyz, .extxyz, .dump, .lammpstrj, each also .gz), or tables (.csv, .json).",
        ),
    ] = None,
    species: Annotated[
        str, typer.Option(help="What the rich phase is rich in; several with commas.")
    ] = ",".join(DEFAULT.species),
    types: Annotated[
        str | None, typer.Option(help="Species of the types 1, 2, ... of a dump: Fe,Mg,Si,O,N.")
    ] = None,
    sigma: Annotated[float, typer.Option(help="Width of the Gaussian, Å.")] = DEFAULT.sigma,
    voxel: Annotated[float | None, typer.Option(help="Voxel edge, Å; sigma/2 if left out.")] = None,
    field: Annotated[str, typer.Option(help="number | mole-fraction")] = DEFAULT.field,
    boundary_width: Annotated[
        float, typer.Option(help="Thickness of the boundary, Å.")
    ] = DEFAULT.boundary_width,
    threshold: Annotated[str, typer.Option(help="steepest | two-means | midpoint | a number")] = str(
        DEFAULT.threshold
    ),
    pooled: Annotated[
        bool, typer.Option("--pooled", help="One cut for all frames (reads the file twice).")
    ] = False,
    average: Annotated[float | None, typer.Option(help="Average densities over ± this time, ps.")] = None,
    dt: Annotated[float | None, typer.Option(help="ps per MD step, where the file holds no times.")] = None,
    keep: Annotated[str, typer.Option(help="Rich domains that count: all | largest")] = DEFAULT.keep,
    min_volume: Annotated[float, typer.Option(help="Smallest rich domain, Å^3.")] = DEFAULT.min_volume,
    at: Annotated[str, typer.Option(help="Decide at the: atom | voxel")] = DEFAULT.at,
    phases: Annotated[str, typer.Option(help="auto, or 2 to cut in any case.")] = str(DEFAULT.phases),
    bulk_distance: Annotated[
        float, typer.Option(help="Distance from which on a phase is bulk, Å.")
    ] = DEFAULT.bulk_distance,
    frames: Annotated[str | None, typer.Option(help="Which frames, from 0: start:stop:step.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that label frames.")] = 1,
    format: Annotated[str | None, typer.Option(help="Format of INPUT where its name does not tell.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for an HTML report, figures and tables.")
    ] = None,
    boundary_scan: Annotated[
        bool, typer.Option("--boundary-scan", help="Find the boundary width of least variance.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Machine-readable results on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Label every atom as rich, poor or boundary; composition with error bars."""
    with _exit_codes(f"{output} was not written." if output else ""):
        with _usage():
            rule = LabelRule(
                species=_names(species), sigma=sigma, voxel=voxel, field=field, at=at, keep=keep,  # type: ignore[arg-type]
                threshold=_threshold(threshold), min_volume=min_volume, boundary_width=boundary_width,
                phases=2 if phases == "2" else phases, bulk_distance=bulk_distance,  # type: ignore[arg-type]
            )  # fmt: skip
            if workers < 1:
                raise ValueError(f"--workers must be at least 1, found {workers}.")
            if average is not None and not average > 0:
                raise ValueError(f"--average must be a positive time in ps, found {average}.")
            if pooled and not isinstance(rule.threshold, str):
                raise ValueError(
                    "--pooled finds one cut from the frames; it cannot be given as a number too."
                )
            kind = _output_kind(output, input)
            reader = _reader(input, types, frames, dt, format, fields=kind == "frames")
            reader()
        if average is not None and workers > 1 and not quiet:
            _note("--average labels the frames in order, in one process; --workers is not used.")
        with _frame_progress(input.name, shown=not quiet and not as_json) as counted:
            if pooled:
                from phaseseg.families.segmentation.labels import pooled_threshold

                rule = pooled_threshold(counted(reader(), "finding one cut"), rule)
            run = _Labeling(input.name, rule, average=average, workers=workers, scan=boundary_scan)
            _write_or_drop(counted(run.results(reader()), "labeling"), output if kind == "frames" else None)
        _finish(run, output if kind == "tables" else None, report, as_json=as_json, quiet=quiet)
        if output and not quiet:
            _note(f"Written: {output}")


def _write_or_drop(results: Iterable[tuple[Frame, Fields]], output: Path | None) -> None:
    """Take all results, and write the frames where an output is given."""
    if output is None:
        deque(results, maxlen=0)
        return
    from phaseseg.io import write_frames

    write_frames(output, results)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _threshold(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _output_kind(output: Path | None, source: Path) -> str:
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


def _reader(
    path: Path, types: str | None, frames: str | None, dt: float | None, file_format: str | None, fields: bool
) -> Callable[[], Iterator[Frame]]:
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
    names = None if types is None else _names(types)
    return partial(
        read_frames,
        path,
        types=names,
        frames=chosen,
        dt=dt,
        fields=fields,
        same_atoms=True,
        file_format=file_format,
    )


@contextmanager
def _frame_progress(name: str, shown: bool) -> Iterator[Callable[..., Iterator[Any]]]:
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


def _finish(
    run: _Labeling, tables_to: Path | None, folder: Path | None, *, as_json: bool, quiet: bool
) -> None:
    """Tables, report, and what is printed."""
    from phaseseg.families.segmentation.series import boundary_sentence
    from phaseseg.families.segmentation.wording import duration

    tables = run.summary.tables()
    messages = list(run.summary.messages)
    if run.scan is not None:
        tables["boundary_scan"] = run.scan.table()
        messages.append(boundary_sentence(tables["boundary_scan"]))
    if tables_to is not None:
        _write_tables(tables_to, tables, _results(run, tables, messages))
    if folder is not None:
        from phaseseg.families.segmentation.report import write_report

        page = write_report(folder, run.report())
        if not quiet:
            _note(f"Written: {page}")
    if as_json:
        typer.echo(json.dumps(_results(run, tables, messages), ensure_ascii=False, allow_nan=False))
    if not quiet:
        for sentence in messages:
            _note(sentence)
        if not as_json:
            _print_composition(tables["composition"], run.source, len(run.summary))
        _note(
            f"{len(run.summary):,} frame{'s' * (len(run.summary) > 1)} {run.done} in {duration(run.seconds)}."
        )


def _write_tables(path: Path, tables: Mapping[str, Table], results: Mapping[str, Any]) -> None:
    from phaseseg.io import atomic_output, write_table

    if path.suffix.lower() == ".json":
        with atomic_output(path) as temporary:
            temporary.write_text(
                json.dumps(results, ensure_ascii=False, indent=1, allow_nan=False) + "\n", "utf-8"
            )
        return
    others = {name: table for name, table in tables.items() if name != "composition"}
    write_table(path, tables["composition"])
    write_table(path, others)


def _results(run: _Labeling, tables: Mapping[str, Table], messages: list[str]) -> dict[str, Any]:
    """What `--json` prints: plain values, and null for what is not a finite number."""

    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and not isfinite(value) else value

    return {
        "version": phaseseg.__version__,
        "input": run.source,
        "frames": len(run.summary),
        "seconds": run.seconds,
        "rule": run.settings,
        "messages": messages,
        "tables": {
            name: [{column: plain(value) for column, value in row.items()} for row in table.rows()]
            for name, table in tables.items()
        },
    }


def _note(sentence: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(sentence, markup=False)


def _print_composition(table: Table, name: str, n_frames: int) -> None:
    from rich.table import Table as RichTable

    from phaseseg.families.segmentation.wording import composition_rows, value_and_error

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)  # a file or pipe has no width to keep to
    for unit, kind in (("wt%", "mass"), ("at%", "atoms")):
        rows = composition_rows(table, unit)
        if not rows:
            continue
        what = f"mean ± standard error of {n_frames} frames" if n_frames > 1 else "1 frame"
        shown = RichTable(title=f"{name}, {unit} ({what})", title_justify="left", title_style="bold")
        shown.add_column("phase")
        for heading in (f"share of {kind}", *list(rows[0])[2:]):
            shown.add_column(heading, justify="right", no_wrap=True)
        colors = {"rich": "dark_orange3", "poor": "steel_blue", "boundary": "khaki3"}
        for row in rows:
            cells = [value_and_error(*row[column]) for column in list(row)[1:]]
            shown.add_row(row["phase"], *cells, style=colors.get(row["phase"]))
        console.print(shown)


# ---------------------------------------------------------------------------------------- demo


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("demo-output"),
) -> None:
    """Label the bundled melts, one frame of 33,280 atoms and 66 of 520, at 3000 K and 4000 K."""
    from importlib.resources import as_file, files

    with _exit_codes(f"What was finished lies in {output}."):
        from phaseseg.families.segmentation.report import write_report
        from phaseseg.families.segmentation.wording import duration
        from phaseseg.io import OutputError, read_frames, write_frames

        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{output}: the folder cannot be made ({error.strerror}).") from None
        melts = files("phaseseg") / "demo"
        console = Console(stderr=True)
        waiting = "compiling (only the first time on a machine takes long)"
        status = console.status(waiting) if console.is_terminal else nullcontext()
        with status, as_file(melts / "melt_small_3000K.dump.gz") as path:
            deque(_Labeling(path.name, DEFAULT).results(read_frames(path, frames=slice(1))), maxlen=0)
        for name in ("melt_large_3000K", "melt_large_4000K", "melt_small_3000K", "melt_small_4000K"):
            with as_file(melts / f"{name}.dump.gz") as path, _frame_progress(name, shown=True) as counted:
                run = _Labeling(path.name, DEFAULT, scan="small" in name)
                labeled = output / f"{name}.xyz"
                write_frames(labeled, counted(run.results(read_frames(path, dt=0.001)), "labeling"))
                page = write_report(output / name, run.report())
            assert run.shown is not None
            _print_composition(run.summary.tables()["composition"], name, len(run.summary))
            for sentence in run.summary.messages:
                _note(sentence)
            _note(
                f"{len(run.summary)} x {run.shown[0].n_atoms:,} atoms read and labeled in "
                f"{duration(run.seconds)}.\n  labeled atoms  {labeled}\n  report         {page}\n"
            )


# ------------------------------------------------------------------------------------ simulate


@simulate_app.command("melt")
def simulate_melt_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="LAMMPS dump to write; .gz compresses.")],
    temperature: Annotated[float, typer.Option(help="K.")] = 3000.0,
    replicate: Annotated[int, typer.Option(help="n gives n^3 x 520 atoms.")] = 1,
    steps: Annotated[int, typer.Option(help="MD steps after the melt has separated.")] = 18000,
    seed: Annotated[int, typer.Option(help="Another seed is another melt.")] = 1,
    every: Annotated[int | None, typer.Option(help="Steps between frames; 2 ps if left out.")] = None,
    composition: Annotated[
        str, typer.Option(help="metal-silicate | oxidized | metal | silicate")
    ] = "metal-silicate",
    equilibration: Annotated[float, typer.Option(help="Factor on the time before production.")] = 1.0,
    timestep: Annotated[
        float | None, typer.Option(help="ps; 0.001 if left out, half from 10,000 K on.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Simulate the demixing Fe-Mg-Si-O-N melt with LAMMPS (a pair model, not ab initio)."""
    from phaseseg.families.segmentation.wording import duration

    with _exit_codes():
        from phaseseg.simulate import simulate_melt

        console = Console(stderr=True)
        bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:5.1f} %"),
            TimeElapsedColumn(), console=console, transient=True, disable=quiet or not console.is_terminal,
        )  # fmt: skip
        try:
            with bar:
                task = bar.add_task("starting", total=1.0)
                run = simulate_melt(
                    output, temperature=temperature, replicate=replicate, steps=steps, seed=seed, every=every,
                    composition=composition, equilibration=equilibration, timestep=timestep, resume=resume,
                    progress=lambda done, line: bar.update(task, completed=done, description=line),
                )  # fmt: skip
        except (ValueError, FileExistsError, FileNotFoundError) as error:
            raise _UsageError(str(error)) from None
        if not quiet:
            _note(
                f"{run.n_frames} frames of {run.n_atoms:,} atoms in {duration(run.seconds)}: "
                f"{run.temperature:.0f} K, {run.pressure:.1f} GPa.\nWritten: {run.output}"
            )


if __name__ == "__main__":
    main()
