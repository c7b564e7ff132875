"""Frames on the workers of a cluster: each worker reads and writes them itself, and returns what is small."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from phaseseg.terminal.run import FrameReader, FrameRun, Results, said_in

if TYPE_CHECKING:
    from phaseseg.fields import Fields
    from phaseseg.frame import Frame
    from phaseseg.io.packing import Piece
    from phaseseg.io.places import Places
    from phaseseg.io.reading import Carried
    from phaseseg.specs import Level
    from phaseseg.trajectory import Cluster

SMALL: tuple[Level, ...] = ("frame", "table")
"""Levels of fields that a worker returns."""


@dataclass
class FrameHead:
    """What a worker returns of a frame: everything but its atoms.

    read : reads the frame again, here
    function : what was applied to it
    """

    n_atoms: int
    timestep: int | None
    time: float | None
    info: Mapping[str, float]
    species_names: tuple[str, ...]
    units: str
    source: str
    index: int | None
    messages: tuple[Any, ...]
    read: Callable[[], Frame] | None = None
    function: Callable[[Frame], Any] | None = None

    @classmethod
    def of(cls, frame: Frame) -> FrameHead:
        return cls(
            frame.n_atoms, frame.timestep, frame.time, frame.info, frame.species_names, frame.units,
            frame.source, frame.index, frame.messages,
        )  # fmt: skip

    def __len__(self) -> int:
        return self.n_atoms

    def whole(self) -> tuple[Frame, Any]:
        """The frame, and what the function gives for it."""
        assert self.read is not None and self.function is not None
        frame = self.read()
        return frame, self.function(frame)


TASK_SECONDS = 0.5
"""Small frames are put together into tasks that take about as long."""


TOGETHER = 32
"""Most configurations of a data set that are sent together."""


class _Task(NamedTuple):
    """Some frames of a run; a frame of a format that another package reads comes with the task."""

    run: int
    numbers: range
    carried: Carried | None
    frame: Frame | None = None


class _Done(NamedTuple):
    """results : of the frames of a task, each with what the frames before it have determined."""

    run: int
    numbers: range
    results: list[tuple[Any, Carried | None]]
    carried: Carried | None
    seconds: float


class _Analyzed(NamedTuple):
    frame: Frame | FrameHead
    fields: Fields
    part: tuple[str, Piece] | None
    warned: tuple[str, ...]


@dataclass(frozen=True)
class _Read:
    """Reads some frames and applies a function to each, on a worker."""

    places: Sequence[Places | None]
    function: Callable[[int, Frame], Any]

    def __call__(self, task: _Task) -> _Done:
        start, carried, places = perf_counter(), task.carried, self.places[task.run]
        results: list[tuple[Any, Carried | None]] = []
        for number in task.numbers:
            before, frame = carried, task.frame
            if places is not None:
                frame, carried = places.read(number, before)
            assert frame is not None
            results.append((self.function(number, frame), before))
        return _Done(task.run, task.numbers, results, carried, perf_counter() - start)


@dataclass(frozen=True)
class _Analysis:
    """Computes the fields of a frame, writes it, and keeps what is small."""

    function: Callable[[Frame], Fields]
    folder: Path | None
    name: str
    whole: bool

    def __call__(self, number: int, frame: Frame) -> _Analyzed:
        from phaseseg.fields import fields_or_none
        from phaseseg.io.write import write_part

        fields = fields_or_none(self.function, frame)
        part = None
        said: list[str] = []
        if self.folder is not None:
            with said_in(said):
                part = write_part(self.folder, self.name, frame, fields, number)
        if self.whole:
            return _Analyzed(frame, fields, part, tuple(said))
        return _Analyzed(FrameHead.of(frame), fields.of_levels(SMALL), part, tuple(said))


@dataclass(frozen=True)
class _Each:
    function: Callable[[Frame], Any]

    def __call__(self, frames: Sequence[Frame]) -> list[Any]:
        return [self.function(frame) for frame in frames]


def _with_head(
    function: Callable[[Frame], Any], whole: bool, number: int, frame: Frame
) -> tuple[Frame | FrameHead, Any]:
    return frame if whole else FrameHead.of(frame), function(frame)


def _of_frames(function: Callable[[Iterator[Frame]], Any], reader: FrameReader) -> Any:
    return function(reader())


def _first_look(function: Callable[[Iterator[Frame]], Any], reader: FrameReader) -> tuple[Places | None, Any]:
    """Where the frames are, and what a function gives for them, if they have places."""
    places = _place(reader)
    return places, None if places is None else function(reader())


def _absolute(reader: FrameReader) -> FrameReader:
    """For a process in another folder."""
    return replace(reader, path=reader.path.absolute())


def _place(reader: FrameReader) -> Places | None:
    from phaseseg.io.places import placed

    return placed(reader.path, **reader.options)


class Workers:
    """The workers of a cluster, as the commands use them.

    Functions that are sent to them are those of a module, or a `functools.partial` of one.
    """

    def __init__(self, cluster: Cluster, stack: ExitStack) -> None:
        self._cluster, self._stack = cluster, stack
        self._places: dict[Path, Places | None] = {}

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Call a function with small items; yield the results in order."""
        return self._cluster.map(function, items)

    def of_frames(self, function: Callable[[Iterator[Frame]], Any], reader: FrameReader) -> Any:
        """What a function gives for the frames of a file, of which it reads no more than it needs.

        A worker calls it, if it can read the file: unlike this process, it has often loaded the analysis.
        """
        from phaseseg.io.series import files_of

        found = None
        if reader.path not in self._places and len(files_of(reader.path)) == 1:
            looked = self._cluster.map(partial(_first_look, function), [_absolute(reader)])
            [(self._places[reader.path], found)] = looked
        elif self._placed(reader) is not None:
            [found] = self._cluster.map(partial(_of_frames, function), [_absolute(reader)])
        return function(reader()) if self._placed(reader) is None else found

    def over_runs(
        self, function: Callable[[Frame], Any], runs: Mapping[str, FrameReader], *, whole: bool = False
    ) -> Iterator[tuple[str, Frame | FrameHead, Any]]:
        """As `trajectory.over_runs`: yield the run, the frame and what the function gives for it, in order.

        whole : whether the atoms are needed here; otherwise frames come as `FrameHead`
        """
        names, readers = list(runs), list(runs.values())
        if len(readers) == 1:
            places = [self._placed(readers[0])]
        else:  # each run by another worker
            places = list(self._cluster.map(_place, map(_absolute, readers)))
        mapped = self._over(readers, places, partial(_with_head, function, whole or None in places))
        for run, number, (frame, result), carried in mapped:
            self._readable(frame, places[run], number, carried, function)
            yield names[run], frame, result

    def _readable(
        self, frame: Frame | FrameHead, places: Places | None, number: int, carried: Carried | None,
        function: Callable[[Frame], Any],
    ) -> None:  # fmt: skip
        if isinstance(frame, FrameHead) and places is not None:
            frame.read, frame.function = partial(_again, places, number, carried), function

    def spread(self, function: Callable[[Frame], Any], frames: Sequence[Frame]) -> Iterator[Any]:
        """Yield what the function gives for frames in memory, which are sent several at a time."""
        size = max(1, min(len(frames) // (8 * self._cluster.n_threads), TOGETHER))
        parts = (frames[first : first + size] for first in range(0, len(frames), size))
        for results in self._cluster.map(_Each(function), parts):
            yield from results

    def _placed(self, reader: FrameReader) -> Places | None:
        from phaseseg.io.places import placed

        if reader.path not in self._places:
            self._places[reader.path] = placed(reader.path, mapped=self._cluster.map, **reader.options)
        return self._places[reader.path]

    def _over(
        self, readers: Sequence[FrameReader], places: Sequence[Places | None],
        function: Callable[[int, Frame], Any],
    ) -> Iterator[tuple[int, int, Any, Carried | None]]:  # fmt: skip
        """Yield for every frame its run and number, its result, and what the frames before had determined."""
        carried = [None if one is None else one.carried for one in places]
        n_together = 1

        def tasks() -> Iterator[_Task]:
            for run, (reader, known) in enumerate(zip(readers, places, strict=True)):
                if known is None:  # another package reads the format, and this process sends the frames
                    for number, frame in enumerate(reader()):
                        yield _Task(run, range(number, number + 1), None, frame)
                    continue
                first = 0
                while first < len(known):
                    # All workers have something to do until the end.
                    most = (len(known) - first) // (2 * self._cluster.n_threads) + 1
                    task = range(first, min(first + min(n_together, most), len(known)))
                    yield _Task(run, task, carried[run])
                    first = task.stop

        def again(task: _Task, done: _Done) -> _Task | None:
            """A frame before these has a species that was not known when they were sent."""
            now = carried[task.run]
            return None if task.carried == now else task._replace(carried=now)

        for done in self._cluster.map(_Read(places, function), tasks(), again):
            carried[done.run] = done.carried
            # The first frames of a worker take longer, because it loads what it needs.
            n_together = max(n_together, min(int(TASK_SECONDS * len(done.results) / done.seconds), 64))
            for number, (result, before) in zip(done.numbers, done.results, strict=True):
                yield done.run, number, result, before

    def results(
        self, reader: FrameReader, function: Callable[[Frame], Fields], run: FrameRun, output: Path | None,
        *, whole: bool,
    ) -> Results:  # fmt: skip
        """Return frames with their fields, as `in_order`; frames are written by the workers.

        run : what writes the output
        output : frames to write
        whole : whether the atoms are needed here; otherwise frames come as `FrameHead`, and fields without
            arrays
        """
        from phaseseg.io.columns_file import FORMATS
        from phaseseg.io.write import parts_folder

        folder, name = None, ""
        if output is not None and output.suffix.lower() in FORMATS:
            whole = True  # one file with the columns of all frames is written here
        elif output is not None:
            folder, name = self._stack.enter_context(parts_folder(output)), output.name
            run.parts = deque()
        places = self._placed(reader)
        analysis = _Analysis(function, folder, name, whole or places is None)
        return self._pairs(reader, places, analysis, run)

    def _pairs(
        self, reader: FrameReader, places: Places | None, analysis: _Analysis, run: FrameRun
    ) -> Results:
        from phaseseg.fields import fields_or_none

        for _, number, found, carried in self._over([reader], [places], analysis):
            frame = found.frame
            self._readable(frame, places, number, carried, partial(fields_or_none, analysis.function))
            if run.parts is not None and analysis.folder is not None and found.part is not None:
                part, piece = found.part
                run.parts.append((analysis.folder / part, piece))
            run.warned = {**run.warned, **dict.fromkeys(found.warned)}
            yield frame, found.fields


def _again(places: Places, number: int, carried: Carried | None) -> Frame:
    return places.read(number, carried)[0]


@contextmanager
def workers_at(scheduler: str | None) -> Iterator[Workers | None]:
    """Yield the workers of a Dask scheduler; None without an address."""
    if scheduler is None:
        yield None
        return
    from phaseseg.trajectory import Cluster

    with ExitStack() as stack, Cluster(scheduler) as cluster:
        for name in list(logging.root.manager.loggerDict):
            if name.split(".")[0] == "distributed":  # errors become one sentence
                logging.getLogger(name).setLevel(logging.CRITICAL)
        yield Workers(cluster, stack)
