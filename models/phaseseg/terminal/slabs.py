"""Frames larger than memory on the command line: whether a file has them, and the loop over them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from phaseseg.terminal.show import FrameBar, note

if TYPE_CHECKING:
    from phaseseg.io.packing import Piece
    from phaseseg.large.disk import Disk
    from phaseseg.large.kept import Kept, Tasks
    from phaseseg.large.store import FrameStore, InSlabs
    from phaseseg.specs import Progress
    from phaseseg.terminal.cluster import Workers
    from phaseseg.terminal.run import FrameRun, Results

FREE_SHARE = 0.7
"""Part of the free memory that a frame may take before it is cut into slabs."""
DISK_BYTES = 300
"""Bytes for each atom in temporary files."""
PREDICTED_BYTES = 450
"""Memory for each atom of a frame that is predicted whole, with the text that is read."""


def slabs_wanted(
    given: str, path: Path, n_bytes: float, *, format: str | None, quiet: bool, doing: str,
    scheduler: str | None = None, resume: Path | None = None,
) -> int:  # fmt: skip
    """The number of slabs into which the frames of a file are cut; 1 to leave them in memory.

    given : "auto" or a number; n_bytes : memory for each atom of a frame that is not cut
    scheduler : address of a cluster, which gets whole frames unless a number or a folder is given
    resume : folder of results that survive an interruption, which only slabs have

    Raises
    ------
    ValueError
        For another text, or slabs of a file that is not read in pieces.
    """
    from phaseseg.io.pieces import FORMATS, announced_atoms, pieced_format
    from phaseseg.io.series import files_of

    if given != "auto" and not (given.isdecimal() and int(given) >= 1):
        raise ValueError(f"--slabs must be auto or a number of at least 1, found {given!r}.")
    if given == "auto" and scheduler is not None and resume is None:
        return 1
    if given == "1":
        if resume is not None:
            raise ValueError("--resume keeps what finished slabs give; omit --slabs 1, or omit --resume.")
        return 1
    files = files_of(path)
    pieced = len(files) == 1 and pieced_format(files[0], format)
    if not pieced:
        if given == "auto" and resume is None:
            return 1
        raise ValueError(
            f"{path.name}: slabs are read from one file, a {' or '.join(FORMATS)} file. Convert it, or omit "
            f"{'--slabs' if given != 'auto' else '--resume'}."
        )
    if given != "auto":
        if scheduler is not None and resume is None:
            raise ValueError(
                "the workers of --scheduler read slabs from a folder that all machines share; name one with "
                "--resume."
            )
        return int(given)
    from phaseseg.large.disk import usual_folder
    from phaseseg.large.store import usual_slabs

    n_atoms = announced_atoms(files[0], format)
    n_slabs, large = usual_slabs(n_atoms), beyond_memory(path, n_atoms, n_bytes)
    if resume is not None:
        return max(n_slabs, 2)
    if not large:
        return 1
    if not quiet:
        note(f"{large} Each frame is {doing} in {n_slabs} slabs, with temporary files in {usual_folder()}.")
    return n_slabs


def beyond_memory(path: Path, n_atoms: int, n_bytes: float) -> str:
    """A sentence if a frame of that many atoms would take too much of the free memory, else nothing.

    n_bytes : memory for each atom
    """
    import psutil

    free = psutil.virtual_memory().available
    if n_atoms * n_bytes <= FREE_SHARE * free:
        return ""
    return (
        f"{path.name}: {n_atoms:,} atoms would take about {n_atoms * n_bytes / 1e9:.3g} GB of memory, and "
        f"{free / 1e9:.3g} GB are free."
    )


def not_in_slabs(**asked: bool) -> None:
    """Raise ValueError for options that need whole frames in memory."""
    if flags := [f"--{name.replace('_', '-')}" for name, given in asked.items() if given]:
        raise ValueError(
            f"{', '.join(flags)} needs whole frames in memory. Omit it, or give --slabs 1 on a machine with "
            "more memory."
        )


Make = Callable[["FrameStore", "Disk", int, "Progress"], "InSlabs"]
"""Works on a frame that was read, in a number of slabs."""


def run_slabs(
    path: Path, n_slabs: int, make: Make, bar: FrameBar, *, output: Path | None, doing: str,
    begin: Callable[[InSlabs], FrameRun], resume: Path | None = None, rule: Mapping[str, Any] | None = None,
    cluster: Workers | None = None, **reading: Any,
) -> FrameRun:  # fmt: skip
    """Work on the frames of a file one by one, each in slabs, and write them if an output is given.

    begin : makes the run, with the first result; reading : options of `frame_reader`
    resume : folder that keeps what finished slabs give, until `finish` has written all
    rule : what the results depend on besides the file and how it is read
    cluster : whose workers share the folder and make results of slabs
    """
    from phaseseg.io.columns_file import FORMATS

    tasks = None if cluster is None else cluster.map
    kept = kept_results(resume, {path: n_slabs}, rule or {}, tasks, **reading)
    results = in_slabs(path, n_slabs, make, bar, kept=kept, **reading)
    start = perf_counter()
    first = next(results, None)
    if first is None:
        raise ValueError(f"{path.name}: there are no frames.")
    run, now = begin(first), first
    run.seconds = perf_counter() - start

    def pairs() -> Results:
        nonlocal now
        for now in chain([first], results):
            yield now.store.outline, now.fields

    def written() -> Iterator[Any]:
        for number, _ in enumerate(bar.frames(run.results(pairs()), doing)):
            if run.parts is None or output is None:
                yield now.pieces()
            else:
                for part, said in _written_elsewhere(now, output.name, number, bar.inside):
                    run.parts.append(part)
                    run.warned = {**run.warned, **dict.fromkeys(said)}
                    yield

    if cluster is not None and output is not None and output.suffix.lower() not in FORMATS:
        run.parts = deque()
    run.write(written(), output)
    run.no_longer_needed = kept.remove
    return run


def _written_elsewhere(
    found: InSlabs, name: str, number: int, progress: Progress
) -> Iterator[tuple[tuple[Path, Piece], list[str]]]:
    """Let other machines write a frame; yield the parts of the output, and what was said about each.

    name : of the output; number : of the frame in it
    """
    from phaseseg.large.tasks import each

    store, small = found.store, replace(found, fields=found.fields.of_levels(("frame",)))
    write = partial(_write_piece, small, store.disk.folder, name, number)
    return each(store.disk, "text", write, range(len(store.rows)), "writing", progress)


def _write_piece(
    found: InSlabs, folder: Path, name: str, number: int, piece: int
) -> tuple[tuple[Path, Piece], list[str]]:
    from phaseseg.io.write import write_part
    from phaseseg.terminal.run import said_in

    said: list[str] = []
    with said_in(said):
        frame, result = found.piece(found.store.rows[piece])
        n_atoms = None if piece else found.store.outline.n_atoms
        part, counted = write_part(folder, name, frame, result, number, n_atoms)
    return (folder / part, counted), said


def kept_results(
    resume: Path | None, n_slabs: Mapping[Path, int], rule: Mapping[str, Any], tasks: Tasks | None = None,
    **reading: Any,
) -> Kept:  # fmt: skip
    """What finished slabs of some files gave in an interrupted run, and a place for what they give.

    resume : folder; without one, nothing is kept
    n_slabs : of each file
    rule : what the results depend on besides the files and how they are read
    tasks : how other machines make results; reading : options of `frame_reader`
    """
    from phaseseg.io.series import files_of
    from phaseseg.large.kept import Kept
    from phaseseg.version import __version__

    if resume is None:
        return Kept()
    files = [files_of(path)[0] for path in n_slabs]
    states = [file.stat() for file in files]
    about = {
        "file": [str(file.resolve()) for file in files], "size": [state.st_size for state in states],
        "changed": [state.st_mtime_ns for state in states], "slabs": [*n_slabs.values()],
        "version": __version__, **rule,
        "reading": {name: value for name, value in _options(reading).items() if name != "fields"},
    }  # fmt: skip
    return Kept.of_run(resume, about, tasks)


def _options(reading: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `read_pieces`, from those of `frame_reader`."""
    from phaseseg.terminal.run import frame_slice

    options = {"units": "metal"} | {name: value for name, value in reading.items() if value is not None}
    options["frames"] = frame_slice(reading.get("frames"))
    options["file_format"] = options.pop("format", None)
    return options


def in_slabs(
    path: Path, n_slabs: int, make: Make, bar: FrameBar, *, kept: Kept | None = None,
    disk_bytes: float = DISK_BYTES, **reading: Any,
) -> Iterator[InSlabs]:  # fmt: skip
    """The results of the frames of a file; each may be used until the next one is asked for.

    kept : what finished slabs of an earlier run gave
    disk_bytes : for each atom, in temporary files; reading : options of `frame_reader`
    """
    from phaseseg.io.pieces import read_pieces
    from phaseseg.large.disk import Disk
    from phaseseg.large.store import FrameStore

    for found in read_pieces(path, **_options(reading)):
        if not found.n_atoms:
            raise ValueError(f"{path.name}, frame {found.index}: the frame has no atoms.")
        with Disk(kept=None if kept is None else kept.of_frame(found.index)) as disk:
            disk.check(disk_bytes * found.n_atoms)
            yield make(FrameStore.read(found, disk, bar.inside), disk, n_slabs, bar.inside)
