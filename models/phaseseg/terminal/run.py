"""Reading the frames of files, the loop over them, and writing and printing of the results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

from phaseseg.display import plural
from phaseseg.terminal.show import note, show, show_json
from phaseseg.version import __version__

if TYPE_CHECKING:
    from phaseseg.fields import Fields, Table
    from phaseseg.frame import Frame
    from phaseseg.io.packing import Piece
    from phaseseg.summary import Summary
    from phaseseg.viewer.scene import Scene

Reader = Callable[[], "Iterator[Frame]"]


@dataclass(frozen=True)
class FrameReader:
    """Reads the chosen frames of a file; each call starts from the first.

    options : of `phaseseg.io.read_frames`
    """

    path: Path
    options: Mapping[str, Any]

    def __call__(self) -> Iterator[Frame]:
        from phaseseg.io import read_frames

        return read_frames(self.path, **self.options)

    def __iter__(self) -> Iterator[Frame]:
        return self()


Results = Iterator[tuple["Frame", "Fields"]]
Also = Callable[[int, "Frame", "Fields"], None]
"""Called for each frame with its number, the frame and its fields."""


@contextmanager
def said_in(sentences: list[str]) -> Iterator[None]:
    """Put warnings on an output into a list instead of showing them."""
    with catch_warnings(record=True) as caught:
        simplefilter("always", UserWarning)
        yield
    sentences += [str(one.message) for one in caught if one.category is UserWarning]


# -------------------------------------------------------------------------------------- input


def frame_reader(
    path: Path, *, types: str | None = None, names: str | None = None, cell: str | None = None,
    frames: str | None = None, dt: float | None = None, format: str | None = None, units: str | None = None,
    fields: bool = False,
) -> FrameReader:  # fmt: skip
    """Return a function that reads the chosen frames of a file.

    An InputError concerns the file, any other ValueError the arguments.
    """
    reader = FrameReader(path, {
        "types": types, "names": names, "cell": cell, "frames": frame_slice(frames), "dt": dt,
        "fields": fields, "file_format": format, "units": units or "metal",
    })  # fmt: skip
    reader()  # report a missing file before the work starts
    return reader


def frame_slice(frames: str | None) -> slice | None:
    """Parse start:stop:step, or the number of a single frame; ValueError for other text."""
    if frames is None:
        return None
    try:
        parts = [int(part) if part.strip() else None for part in frames.split(":")]
        first = parts[0] or 0
        # More than three parts are an error.
        return slice(*parts) if parts[1:] else slice(first, first + 1 if first != -1 else None)
    except (ValueError, TypeError):
        raise ValueError(f"--frames must be start:stop:step, as in 0:100:10, found {frames!r}.") from None


def run_readers(paths: Sequence[Path], **options: Any) -> dict[str, FrameReader]:
    """Return a `frame_reader` for each file, by name, or by path if two files have the same name."""
    names = [path.name for path in paths]
    return {
        path.name if names.count(path.name) == 1 else str(path): frame_reader(path, **options)
        for path in paths
    }


def name_of(paths: Sequence[Path]) -> str:
    """Return the name of the files for headings."""
    return paths[0].name if len(paths) == 1 else f"{len(paths)} files"


# ------------------------------------------------------------------------------------- output


def output_kind(output: Path | None, source: Path) -> str:
    """Return "frames", "tables" or "" for no output; ValueError if the output cannot be written."""
    if output is None:
        return ""
    from phaseseg.io import InputError, format_of_name
    from phaseseg.io.columns_file import FORMATS
    from phaseseg.io.packing import WRITTEN, bare_name
    from phaseseg.io.series import files_of

    files = [source]
    with suppress(InputError):  # the reader says that there are none
        files = files_of(source)
    for file in files:
        check_place(output, input=file)
    name = output.name.lower()
    if name.endswith((".csv", ".json")):
        return "tables"
    if name.endswith((*FORMATS,)) or format_of_name(bare_name(name, WRITTEN)) in ("extxyz", "lammps-dump"):
        return "frames"
    if output.exists() and not output.is_file():  # a device or pipe
        raise ValueError(f"{output}: the format cannot be inferred from the name.")
    raise ValueError(
        f"{output.name}: the format cannot be inferred from the name; use .xyz, .extxyz, .dump or .lammpstrj "
        "(also with .gz or .zst) for labeled frames, .npz or .parquet for their columns alone, .csv or .json "
        "for tables."
    )


def check_place(path: Path, **others: Path | None) -> None:
    """Raise ValueError if a file cannot be written or is one of the others."""
    for what, other in others.items():
        if other is not None and (
            path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other))
        ):
            raise ValueError(f"{path} is the {what}; choose another name.")
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(
            f"{path}: " + ("this is a folder." if path.is_dir() else "its folder does not exist.")
        )


def check_folder(folder: Path | None, error: type[Exception] = ValueError) -> None:
    """Raise an error if a file has the name of the folder."""
    if folder is not None and folder.exists() and not folder.is_dir():
        raise error(f"{folder}: this is a file. Give the name of a folder.")


# --------------------------------------------------------------------------------------- loop


def in_order(function: Callable[[Frame], Fields], frames: Iterable[Frame], workers: int = 1) -> Results:
    """Yield frames with their results, computed by workers; frames without atoms have no fields."""
    from phaseseg.fields import fields_or_none
    from phaseseg.trajectory import over_runs

    for _, frame, fields in over_runs(partial(fields_or_none, function), {"": frames}, workers=workers):
        yield frame, fields


@dataclass
class FrameRun:
    """One pass over the frames of a file.

    source : name of the file
    summary : collects the results
    done : participle for the closing message, such as "predicted"
    settings : settings to record with the results
    also : further functions to call for each frame
    scene : collects the frames that the report shows; None for a report without
    seconds : time for reading and analysis, without writing
    warned : sentences about the output, in order
    parts : parts of the output that workers have written, if they do
    no_longer_needed : removes what an interrupted run would continue from; called when all is written
    """

    source: str
    summary: Summary
    done: str
    settings: Mapping[str, Any]
    also: Sequence[Also] = ()
    scene: Scene | None = None
    seconds: float = 0.0
    warned: Mapping[str, None] = field(default_factory=dict)
    parts: deque[tuple[Path, Piece]] | None = None
    no_longer_needed: Callable[[], None] | None = None

    def results(self, pairs: Results) -> Results:
        """Add pairs of frames and fields to the summary, and yield them."""
        n_atoms = 0
        while True:
            start = perf_counter()
            pair = next(pairs, None)
            self.seconds += perf_counter() - start
            if pair is None:
                break
            for do in self.also:
                do(len(self.summary), *pair)
            self.summary.add(*pair)
            if self.scene is not None:
                self.scene.add(*pair)
            n_atoms += len(pair[0])
            yield pair
        if not len(self.summary):
            raise ValueError(f"{self.source}: there are no frames.")
        if not n_atoms:
            raise ValueError(f"{self.source}: no frame has atoms. Give a file with atoms, or other frames.")

    def write(self, results: Results, output: Path | None) -> None:
        """Consume all results, and write the frames if an output is given."""
        from phaseseg.io import write_frames
        from phaseseg.io.write import join_parts

        if output is None:
            deque(results, maxlen=0)
            return
        parts = self.parts
        if parts is not None:
            join_parts(output, (parts.popleft() for _ in results for _ in range(len(parts))))
            return
        said: list[str] = []
        with said_in(said):
            write_frames(output, results)
        self.warned = dict.fromkeys(said)

    def finish(
        self, tables_to: Path | None, report: Path | None, written: Iterable[Path | None], *, as_json: bool,
        quiet: bool,
    ) -> None:  # fmt: skip
        """Write tables and report, and print the results.

        written : further output files to list at the end
        """
        from phaseseg.report import duration

        summary = self.summary
        # Messages and tables of many frames take a while.
        whole = tables_to is not None or as_json
        messages = [*summary.messages, *self.warned] if whole or not quiet else []
        content: dict[str, Any] = {}
        if whole:
            content = {
                "version": __version__, "input": self.source, "frames": len(summary), "seconds": self.seconds,
                "rule": self.settings, "messages": messages, "tables": summary.tables(),
            }  # fmt: skip
        if tables_to is not None:
            write_results(tables_to, content["tables"], content)
        if report is not None:
            page = summary.write_report(report, {"seconds": self.seconds})
            if self.scene is not None:
                add_atoms(page, self.scene, self.source)
            if not quiet:
                note(f"Written: {page}")
        if self.no_longer_needed is not None:
            self.no_longer_needed()
        if as_json:
            show_json(content)
        if not quiet:
            note(*messages)
            if not as_json:
                show(summary.shown())
            note(f"{plural(len(summary), 'frame')} {self.done} in {duration(self.seconds)}.")
            note(*(f"Written: {path}" for path in written if path is not None))


def add_atoms(page: Path, scene: Scene, source: str) -> None:
    """Add the frames of a scene to a report that was written."""
    from phaseseg.report import add_section
    from phaseseg.viewer.page import page_of

    add_section(page, "Atoms", page_of(scene, source).frame_html())


def write_results(path: Path, tables: Mapping[str, Table], content: Any) -> None:
    """Write all results to one .json, or the tables to .csv, the first under the given name."""
    from phaseseg.io import write_json, write_table

    if path.suffix.lower() == ".json":
        write_json(path, content)
        return
    first, *others = tables
    write_table(path, tables[first])
    if others:
        write_table(path, {name: tables[name] for name in others})
