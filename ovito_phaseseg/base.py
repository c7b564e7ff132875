"""Base classes of the modifiers, and `NetworkModifier`, which runs networks of any family."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event
from types import new_class
from typing import Any, ClassVar, TypeVar, cast

from ovito_phaseseg import convert
from ovito_phaseseg.options import CheckedModifier, shown_options
from phaseseg.families import Family, Fitted, Option, Progress
from phaseseg.specs import FIELD_SPECS

POLL = 0.05
"""Seconds between returns of control to OVITO while an analysis runs."""

T = TypeVar("T")
Steps = Generator[str | float, None, T]
"""Yields texts and fractions (0 to 1) for OVITO's progress display; returns a result."""


@contextmanager
def error_prefix(name: str, remedy: str) -> Iterator[None]:
    """Prefix error messages with the name of the modifier."""
    try:
        yield
    except MemoryError as error:
        raise MemoryError(f"{name}: not enough memory; {remedy}. {error}") from error
    except ImportError as error:
        hint = "install everything with: pip install ovito-phaseseg[ovito]"
        raise ImportError(f"{name}: {error}; {hint}") from error
    except (ValueError, RuntimeError) as error:
        kind = ValueError if isinstance(error, ValueError) else RuntimeError
        raise kind(f"{name}: {error}") from error


@dataclass(frozen=True)
class Job:
    """The analysis of one frame by a modifier, with its options parsed and checked.

    rule : parsed options, None if there are none
    key : everything except the frame that the output depends on
    text : status during the analysis, followed by the number of particles
    run : the expensive half, from a frame to an output that is cached; runs in its own thread
    fields : the cheap half, from a frame and its output to fields
    about : further attributes
    threads : number of threads on which compiled loops run; None for the usual one
    """

    rule: Any
    key: tuple[Any, ...]
    text: str
    run: Callable[[Any, Progress], Any]
    fields: Callable[[Any, Any], Any]
    about: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None

    def output(self, frame: Any, low: float, high: float) -> Steps[Any]:
        """Run the analysis; progress goes from `low` to `high`."""
        yield f"{self.text} {frame.n_atoms:,} particles"
        return (yield from in_thread(lambda progress: self.run(frame, progress), low, high, self.threads))


@dataclass
class Evaluation:
    """One evaluation of a modifier by OVITO.

    data : the DataCollection of the frame `number`, modified in place
    cache : kept by OVITO until a parameter of the part "run", or anything upstream, changes
    upstream : source of the data of other frames; None outside a pipeline
    messages : shown to the user at the end
    turn : number of the modifier among those of its prefix in the pipeline, from 1
    """

    data: Any
    number: int
    cache: MutableMapping[str, Any]
    upstream: Any = None
    job: Any = None
    frame: Any = None
    output: Any = None
    fields: Any = None
    messages: list[str] = field(default_factory=list)
    turn: int = 1

    def kept(self, name: str, key: Any, make: Callable[[], Steps[T]]) -> Steps[T]:
        """Return the cached value made with this key, or make a new one; caches one value per name."""
        entry, key = f"phaseseg.{name}", repr(key)
        known = self.cache.get(entry)
        if known is None or known[0] != key:
            self.cache.pop(entry, None)
            del known  # free the old value before making the new one
            self.cache[entry] = known = key, (yield from make())
        value: T = known[1]
        return value

    @property
    def numbers(self) -> Sequence[int]:
        """Numbers of all frames of the trajectory; outside a pipeline only this frame."""
        return (self.number,) if self.upstream is None else range(self.upstream.num_frames)

    def data_of(self, number: int) -> Any:
        """Return the data of a frame from upstream."""
        return self.data if number == self.number else self.upstream.compute(number)


THREADS = Option(
    "threads", int, 0, "Number of threads; 0 for OVITO's own (OVITO_THREAD_COUNT), or one for each core.",
    "read", low=0, label="Threads (0: automatic)", group="Processor",
)  # fmt: skip


def in_thread(work: Callable[[Progress], T], low: float, high: float, threads: int | None = None) -> Steps[T]:
    """Run `work` in its own thread and return its result; progress goes from `low` to `high`.

    OVITO stays responsive. If it closes the generator (the user cancels), the next call of `progress` raises
    in the thread, which stops the work. `work` must not call OVITO.
    """
    from phaseseg.compiled.threads import threads as on_threads

    stopped, latest = Event(), (0.0, "")

    def progress(fraction: float, text: str = "") -> None:
        nonlocal latest
        if stopped.is_set():
            raise KeyboardInterrupt  # error handlers in families do not catch it
        latest = max(latest[0], min(fraction, 1.0)), text

    shown = ""
    with ThreadPoolExecutor(1, "phaseseg") as pool:
        future = pool.submit(on_threads(threads)(work), progress)
        try:
            while wait([future], POLL).not_done:
                fraction, text = latest
                if text and text != shown:
                    yield text
                    shown = text
                yield low + (high - low) * fraction
        finally:
            stopped.set()
    try:
        return future.result()
    finally:
        del future  # otherwise a reference cycle of error and traceback keeps all data in memory


class AnalysisModifier(CheckedModifier, options=(THREADS,)):
    """Computes fields from particles and writes them into OVITO's data; caches the expensive half.

    heading : prefix of error messages
    prefix : prefix of attribute names
    tables : prefix of table identifiers
    file_units : units of the file if there is no parameter for them
    boxed : whether particles without a cell get an open box; otherwise they are refused
    remedy : advice if memory runs out
    renames : whether the parameter `names` is about the file; a family may have an option of this name
    """

    heading: ClassVar[str]
    prefix: ClassVar[str]
    tables: ClassVar[str] = ""
    file_units: ClassVar[str] = "metal"
    boxed: ClassVar[bool] = False
    remedy: ClassVar[str] = "use fewer particles"
    renames: ClassVar[bool] = True

    def job(self, now: Evaluation) -> Steps[Job]:
        """Return the analysis for the current parameters."""
        raise NotImplementedError

    def put(self, now: Evaluation) -> Steps[None]:
        """Write outputs other than particle properties, tables and attributes: all grids and bonds."""
        for name, grid in now.fields.level("grid").items():
            convert.put_grid(now.data, name, grid, number=now.turn)
        for name, bonds in now.fields.level("bond").items():
            convert.put_bonds(now.data, name, bonds, number=now.turn)
        yield 0.9

    def color(self, now: Evaluation) -> None:
        """Color the particles."""

    def modify(
        self, data: Any, *, frame: int, data_cache: Any = None, input_slots: Any = None, **_: Any
    ) -> Steps[None]:
        """Analyze `data`; called by OVITO."""
        cache = {} if data_cache is None else data_cache.attributes
        now = Evaluation(data, frame, cache, None if input_slots is None else input_slots["upstream"])
        with error_prefix(self.heading, self.remedy):
            if "numba" not in sys.modules:
                yield "Loading; the first run compiles for up to 30 s"
            from phaseseg.compiled.threads import threads as on_threads

            job = now.job = replace((yield from self.job(now)), threads=self.thread_count())
            now.frame = self.frame_of(data, fields=getattr(job.rule, "reads_fields", False))
            yield 0.05
            key = (frame, now.frame.n_atoms, *job.key)
            now.output = yield from now.kept("output", key, lambda: job.output(now.frame, 0.05, 0.5))
            yield 0.5
            yield "Writing particle properties, tables and attributes"
            with on_threads(job.threads):
                fields = now.fields = job.fields(now.frame, now.output)
            now.messages += fields.messages
            yield 0.6
            now.turn = convert.number_of(data, self.prefix)
            replaced = [
                FIELD_SPECS[name].title
                for name, values in fields.level("atom").items()
                if convert.put_field(data, FIELD_SPECS[name], values, now.turn)
            ]
            now.messages += self._names_of(now, replaced)
            convert.put_tables(data, fields, self.tables, now.turn)
            yield from self.put(now)
            self.color(now)
            attributes = convert.attributes_of(fields, now.messages) | dict(job.about)
            convert.put_attributes(data, attributes, self.prefix, now.turn)
            yield 1.0
            if now.messages:
                yield " ".join(now.messages)

    def thread_count(self) -> int | None:
        """Number of threads, that of OVITO's environment unless it is set; None for the usual one."""
        given = os.environ.get("OVITO_THREAD_COUNT", "")
        return self.threads or (int(given) if given.isdigit() else 0) or None

    def _names_of(self, now: Evaluation, replaced: Sequence[str]) -> Iterator[str]:
        """Say which names the outputs have, unless they are the usual ones and were free."""
        if replaced:
            yield convert.about_replaced(replaced, now.turn)
        if now.turn > 1:
            first = next((FIELD_SPECS[name].title for name in now.fields.level("atom")), None)
            names = [] if first is None else [convert.numbered_title(first, now.turn)]
            names.append(convert.numbered(f"{self.prefix}messages", now.turn))
            yield (
                f"Similar results were in the input, so these have the number {now.turn}: "
                f"{', '.join(map(repr, names))} and so on."
            )

    def frame_of(self, data: Any, *, fields: bool = False) -> Any:
        """Convert the particles to a Frame; with `fields`, further numeric properties as well."""
        units: Any = getattr(self, "units", self.file_units)
        names = self.names if self.renames else ""
        return convert.frame_from_data(data, self.types, units, names, fields=fields, boxed=self.boxed)


class NetworkModifier(AnalysisModifier):
    """Runs a network of a family: `class MyModifier(NetworkModifier, family="my_family")` is complete.

    Its parameters are `model`, `model_file`, `device`, the options of the family that have a label, the names
    of the particle types and, if the family supports reduced units, the units. It writes all fields. A
    subclass may add `options` and override `put` and `color`.
    """

    family: ClassVar[Family]

    def options(self, *parts: str) -> dict[str, Any]:
        """Return the current options of the family, of these parts; None for an empty text."""
        options = {}
        for option in shown_options(self.family, *parts):
            value = getattr(self, option.name)
            value = convert.names_of(value) if option.type is tuple else value
            options[option.name] = None if value in ("", ()) else value
        return options

    def job(self, now: Evaluation) -> Steps[Job]:
        """Load the networks, parse the options, and fit a model that must learn from all frames."""
        from phaseseg.api import load_model

        chosen, device = self.model_file or self.model, self.device
        if not chosen:
            raise ValueError("no checkpoint is bundled; choose your own file.")
        network = load_model(chosen, self.family.name)
        rule = network.rule(**self.options("run", "read"))
        units = getattr(self, "units", self.file_units)
        key = (network.checkpoint.hash, device, self.types, self.names, units, self.options("run"))
        yield 0.0
        if isinstance(network, Fitted) and not network.fitted:
            network = yield from now.kept("fitted", key, lambda: self._fitted(now, network, rule))
        return Job(
            rule,
            key,
            text=f"{network.checkpoint.name} on",
            run=lambda frame, progress: network.run(frame, rule, device=device, progress=progress),
            fields=lambda frame, output: network.fields(frame, output, rule),
            about={"model": network.checkpoint.name, "model_sha256": network.checkpoint.hash},
        )

    def _fitted(self, now: Evaluation, network: Any, rule: Any) -> Steps[Any]:
        frames = []
        for number in now.numbers:
            yield f"Reading frame {number + 1:,} to fit {network.checkpoint.name}"
            fields = getattr(rule, "reads_fields", False)
            frames.append(self.frame_of(now.data_of(number), fields=fields))
        fit = partial(network.fit_frames, frames, rule)
        return (yield from in_thread(lambda progress: fit(progress=progress), 0.0, 0.05))

    def get_pipeline_short_info(self, *_: Any, **__: Any) -> str:
        """Return the name of the file or checkpoint, which OVITO Pro shows next to the modifier."""
        name: str = str(self.model_file).replace("\\", "/").rpartition("/")[2] or self.model
        return name.removeprefix(f"{self.family.name}/")


def network_modifier(family: str, name: str = "") -> type[NetworkModifier]:
    """Create a modifier class for a registered family.

    name : of the class; the family name in camel case if left out. Session files find a class by module and
        name, so for use in sessions write `class Name(NetworkModifier, family=...)` in a module.
    """
    name = name or family.title().replace("_", "")
    put_module = partial(dict.update, __module__=__name__)
    made = new_class(name, (NetworkModifier,), {"family": family}, put_module)
    return cast(type[NetworkModifier], made)
