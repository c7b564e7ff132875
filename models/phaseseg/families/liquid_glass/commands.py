"""Commands of this family: `phaseseg metrics`, and its part of `phaseseg demo`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.resources import as_file, files
from itertools import chain
from math import isfinite, nan
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phaseseg.display import plural
from phaseseg.terminal import options
from phaseseg.terminal.cluster import Workers, workers_at
from phaseseg.terminal.demonstration import Demonstration
from phaseseg.terminal.errors import exit_codes, usage_errors
from phaseseg.terminal.options import at_least, numbers, split_names
from phaseseg.terminal.run import (
    FrameReader,
    add_atoms,
    check_folder,
    name_of,
    output_kind,
    run_readers,
    write_results,
)
from phaseseg.terminal.show import FrameBar, frame_bar, note, show, show_json
from phaseseg.terminal.slabs import Make, in_slabs, kept_results, not_in_slabs, slabs_wanted
from phaseseg.version import __version__

if TYPE_CHECKING:
    from phaseseg.families.liquid_glass.transition.result import Transition
    from phaseseg.fields import Fields, Table
    from phaseseg.frame import Frame
    from phaseseg.large.disk import Disk
    from phaseseg.large.kept import Kept
    from phaseseg.large.store import FrameStore, InSlabs
    from phaseseg.report import TextTable
    from phaseseg.specs import Progress

COUNTS = (
    "n_disjoint_graphs", "n_bb_edges", "n_isolated_a",
    "disjoint_graphs_per_particle", "bb_edges_per_particle", "isolated_a_per_particle",
)  # fmt: skip
FROM_FILE = ("inherent_energy", "potential_energy", "seed", "cooling_steps")
RULES = ("all", "b-only")
BYTES_PER_ATOM, BYTES_PER_NEIGHBOR, DISK_BYTES_PER_ATOM = 170, 30, 60
"""Memory for each atom of a frame that is not cut into slabs, and temporary files for each of one that is."""


def metrics_command(
    input: Annotated[
        list[Path], typer.Argument(help="Trajectories of a glass former; each file is one independent run.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o",
            help="Table with one row per frame: .csv (with the analysis in separate files) or .json (both).",
        ),
    ] = None,
    temperature: Annotated[
        str | None,
        typer.Option(help="Key of the temperature in the frames; `temperature` by default."),
    ] = None,
    temperatures: Annotated[
        str | None,
        typer.Option(help="Temperatures of the frames of each file, in order, separated by commas."),
    ] = None,
    b: Annotated[str, typer.Option("--b", help="Species B, separated by commas; all others are A.")] = "B",
    k: Annotated[int, typer.Option("--k", help="Number of nearest neighbors per particle.")] = 2,
    rule: Annotated[
        str, typer.Option(help="Particles whose neighbors are linked: all | b-only (B alone).")
    ] = "all",
    tg: Annotated[
        float | None, typer.Option("--tg", help="T_g of the test; by default from the inherent energy.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Number of resamples of the runs; 0 for none.")] = 5000,
    types: options.Types = None,
    names: options.Names = None,
    cell: options.Cell = None,
    frames: options.Frames = None,
    workers: options.Workers = 1,
    scheduler: options.Scheduler = None,
    slabs: options.Slabs = "auto",
    resume: options.ResumeFolder = None,
    format: options.Format = None,
    report: options.ReportFolder = None,
    view: options.View = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:  # fmt: skip
    """Count disjoint graphs, B–B edges and isolated A; test them for a change of slope at T_g."""
    with exit_codes(options.left_behind(output, resume)):
        from phaseseg.families.liquid_glass.transition.analysis import analyze_transition
        from phaseseg.fields import Table
        from phaseseg.report import duration

        with usage_errors():
            for flag, value, low in (("--k", k, 1), ("--bootstrap", bootstrap, 0), ("--workers", workers, 1)):
                at_least(flag, value, low)
            options.one_of_both(workers, scheduler)
            if rule not in RULES:
                raise ValueError(f"--rule must be one of {', '.join(RULES)}, found {rule!r}.")
            if tg is not None and not (isfinite(tg) and tg > 0):
                raise ValueError(f"--tg must be a temperature above 0, found {tg}.")
            if temperature is not None and temperatures is not None:
                raise ValueError("Give either --temperature or --temperatures, not both.")
            key, listed = temperature or "temperature", _listed(temperatures)
            if any(output_kind(output, path) == "frames" for path in input):
                raise ValueError(f"{output}: the name of the table must end in .csv or .json.")
            check_folder(report)
            scene = options.scene(view, report)
            reading: dict[str, Any] = {
                "types": types, "names": names, "cell": cell, "frames": frames, "format": format,
            }  # fmt: skip
            readers = run_readers(input, **reading)
            n_slabs = {
                run: slabs_wanted(
                    slabs, reader.path, BYTES_PER_ATOM + k * BYTES_PER_NEIGHBOR, format=format, quiet=quiet,
                    doing="counted", scheduler=scheduler, resume=resume,
                ) for run, reader in readers.items()
            }  # fmt: skip
            if max(n_slabs.values()) > 1:
                not_in_slabs(view=view, workers=workers > 1)
            for path in input:
                if input.count(path) > 1:
                    raise ValueError(f"{path} is given twice; each file must be a different run.")
        species = split_names(b)
        start = perf_counter()
        name = name_of(input)
        rows = MetricRows(key, listed, required=temperature is not None)
        shown = not quiet and not as_json
        with workers_at(scheduler) as cluster, frame_bar(name, shown=shown) as bar:
            counting: dict[str, Any] = {"b": species, "k": k, "rule": rule}
            counted: Iterator[dict[str, Any]]
            count, make = partial(count_frame, **counting), partial(_metrics_in_slabs, **counting)
            cut = {reader.path: n_slabs[run] for run, reader in readers.items()}
            tasks = None if cluster is None else cluster.map
            kept = kept_results(resume, cut, {"command": "metrics", **counting}, tasks, **reading)
            if max(n_slabs.values()) > 1:
                counted = chain.from_iterable(
                    _counted_in_slabs(
                        run, reader.path, n_slabs[run], make, bar, kept=kept.of_file(number), **reading
                    ) if n_slabs[run] > 1 else counted_frames({run: reader}, count, 1, cluster)
                    for number, (run, reader) in enumerate(readers.items())
                )  # fmt: skip
            else:
                seen = None if scene is None else scene.add
                counted = counted_frames(readers, count, workers, cluster, seen)
            for row in bar.frames(counted, "counting"):
                rows.add(row)
        if not len(rows):
            raise ValueError(f"{next(iter(readers))}: the file has no frames.")
        table = rows.table()
        seconds = perf_counter() - start
        nothing = (
            f"No frame has a {key!r}, so metrics are counted but not analyzed. Name another key with "
            "--temperature, or give --temperatures."
        )
        found = rows.messages.messages()
        result, messages = None, [*found, nothing]
        filled = Table(table.title, {k: v[table.columns["n_atoms"] > 0] for k, v in table.columns.items()})
        if any(map(isfinite, filled.columns["temperature"])):
            result = analyze_transition(filled, glass_temperature=tg, n_bootstrap=bootstrap)
            messages = [*found, *result.messages]
        elif report is not None or tg is not None:
            raise ValueError(nothing)
        settings = {
            "b": list(species), "k": k, "rule": rule, "temperature": key if listed is None else listed,
            "tg": tg, "bootstrap": bootstrap, "version": __version__,
        }  # fmt: skip
        tables = {"frames": table, **(result.tables() if result is not None else {})}
        content = {
            "inputs": [path.name for path in input], "seconds": seconds, "settings": settings,
            "glass_temperature": nan if result is None else result.glass_temperature, "messages": messages,
            "tables": tables,
        }  # fmt: skip
        if output is not None:
            write_results(output, tables, content)
        if report is not None and result is not None:
            from phaseseg.families.liquid_glass.transition.report import write_transition

            page = write_transition(report, result, table, source=name, settings=settings)
            if scene is not None:
                add_atoms(page, scene, next(iter(readers)))
            if not quiet:
                note(f"Written: {page}")
        if as_json:
            show_json(content)
        if not quiet:
            if not as_json:
                show([_shown_counts(table, name) if result is None else _shown_means(result, name)])
            note(*messages)
            note(f"{plural(len(table), 'frame')} counted in {duration(seconds)}.")
            if output is not None:
                note(f"Written: {output}")
        kept.remove()


def _listed(text: str | None) -> list[float] | None:
    if text is None:
        return None
    found = list(numbers(text, "--temperatures", "1.99,0.44,0.05"))
    if not all(isfinite(value) and value > 0 for value in found):
        raise ValueError(f"--temperatures must be above 0, found {text!r}.")
    return found


Seen = Callable[["Frame", Mapping[str, Any]], None]


def count_frame(
    frame: Frame, b: tuple[str, ...], k: int, rule: Any, seen: Seen | None = None
) -> dict[str, Any]:
    """Return the row of a frame; also called in worker processes.

    seen : called with the frame and its fields
    """
    from phaseseg.families.liquid_glass.structural_metrics import glass_metrics
    from phaseseg.fields import fields_or_none

    fields = fields_or_none(partial(glass_metrics, b=b, k=k, rule=rule), frame)
    if seen is not None:
        seen(frame, fields)
    return _row(frame, fields)


def _row(frame: Frame, fields: Fields) -> dict[str, Any]:
    return {
        "source": frame.source, "index": frame.index, "n_atoms": frame.n_atoms,
        "n_dimensions": frame.n_dimensions, "info": dict(frame.info),
        "messages": fields.messages, **{name: fields.get(name, nan) for name in COUNTS},
    }  # fmt: skip


def counted_frames(
    readers: Mapping[str, FrameReader],
    count: Callable[..., dict[str, Any]],
    workers: int,
    cluster: Workers | None = None,
    seen: Seen | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the row of every frame with its run and its place there.

    seen : called with the frames of the first run and their fields; that run is counted in this process
    """
    from phaseseg.trajectory import numbered, over_runs

    over = partial(over_runs, workers=workers) if cluster is None else cluster.over_runs
    rows = over(count, readers)
    if seen is not None:
        (name, first), *others = readers.items()
        rows = chain(over_runs(partial(count, seen=seen), {name: first}), over(count, dict(others)))
    for run, order, _, row in numbered(rows):
        yield _placed(row, run, order)


def _placed(row: dict[str, Any], run: str, order: int) -> dict[str, Any]:
    return row | {"run": run, "order": order, "frame": order if row["index"] is None else row["index"]}


def _metrics_in_slabs(
    store: FrameStore, disk: Disk, n_slabs: int, progress: Progress, **counting: Any
) -> InSlabs:
    from phaseseg.families.liquid_glass.metrics_in_slabs import metrics_in_slabs

    return metrics_in_slabs(store, disk, n_slabs, progress=progress, **counting)


def _counted_in_slabs(
    run: str, path: Path, n_slabs: int, make: Make, bar: FrameBar, *, kept: Kept, **reading: Any
) -> Iterator[dict[str, Any]]:
    """As `counted_frames`, of one run whose frames are cut into slabs."""
    found = in_slabs(path, n_slabs, make, bar, disk_bytes=DISK_BYTES_PER_ATOM, kept=kept, **reading)
    for order, one in enumerate(found):
        yield _placed(_row(one.store.outline, one.fields), run, order)


class MetricRows:
    """The counts of every frame of all runs, in typed columns.

    key : name of the temperature in the frames
    listed : temperatures of the frames of each run, instead of those in the frames
    required : raise ValueError for a frame without a temperature
    """

    def __init__(self, key: str, listed: Sequence[float] | None = None, *, required: bool = False) -> None:
        from phaseseg.fields import MessageCounter
        from phaseseg.summary import FrameColumns

        self._key, self._listed, self._required = key, listed, required
        self._rows = FrameColumns()
        self._flat: dict[int, str] = {}
        self.messages = MessageCounter()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row of `counted_frames`."""
        if row["n_atoms"]:
            self._flat.setdefault(row["n_dimensions"], row["source"])
        names = ("run", "frame", "n_atoms", *COUNTS)
        from_file = {name: float(row["info"].get(name, nan)) for name in FROM_FILE}
        self._rows.add(
            {name: row[name] for name in names} | {"temperature": self._temperature(row)} | from_file
        )
        self.messages.add(row["messages"])

    def _temperature(self, row: Mapping[str, Any]) -> float:
        """Return the temperature of a row, from the list or the file; NaN if unknown."""
        if self._listed is not None:  # `table` compares their number with that of the frames
            return self._listed[row["order"]] if row["order"] < len(self._listed) else nan
        value = float(row["info"].get(self._key, nan))
        if self._required and not isfinite(value):
            keys = ", ".join(row["info"]) or "no numbers"
            raise ValueError(
                f"{row['source']}: there is no temperature {self._key!r}; the frame has {keys}. Name one of "
                "these with --temperature, or give --temperatures."
            )
        if isfinite(value) and value <= 0:
            raise ValueError(
                f"{row['source']}: the temperature is {value:g}; it must be above 0. Give --temperatures."
            )
        return value

    def table(self) -> Table:
        """Return one row per frame; ValueError if the frames cannot be analyzed together."""
        import numpy as np

        from phaseseg.fields import Table

        if len(self._flat) > 1:
            raise ValueError(
                f"{self._flat[2]} has two dimensions and {self._flat[3]} three. They cannot be analyzed "
                "together; analyze them separately."
            )
        for run, n_frames in Counter(self._rows["run"].tolist()).items():
            if self._listed is not None and n_frames != len(self._listed):
                raise ValueError(
                    f"{run}: {n_frames} frames were read, but --temperatures has {len(self._listed)}; give "
                    "one for each frame."
                )
        names = ("run", "frame", "temperature", "n_atoms", *COUNTS)
        columns = {name: self._rows[name] for name in names}
        for name in FROM_FILE:
            values = self._rows[name]
            if np.isfinite(values).any():
                whole = np.isfinite(values).all() and (values == np.round(values)).all()
                columns[name] = values.astype(np.int64) if whole and "energy" not in name else values
        return Table("Structural metrics", columns)


def _shown_counts(table: Table, name: str) -> TextTable:
    from phaseseg.report import TextTable

    rows = (tuple(str(row[column]) for column in ("run", "frame", *COUNTS[:3])) for row in table.rows())
    return TextTable(name, ("run", "frame", "disjoint graphs", "B–B edges", "isolated A"), tuple(rows))


def _shown_means(result: Transition, name: str) -> TextTable:
    from phaseseg.display import value_and_error
    from phaseseg.report import TextTable

    n_runs = len(result.runs)
    what = f"mean ± standard error of {n_runs} runs" if n_runs > 1 else "1 run"
    headings = ["T", *(metric.title for metric in result.metrics.values())]
    energies = result.energies.get("inherent_energy")
    if energies is not None:
        headings.append("inherent energy")
    rows: list[tuple[str, ...]] = []
    for n in reversed(range(len(result.temperature))):
        cells = [value_and_error(metric.mean[n], metric.error[n]) for metric in result.metrics.values()]
        if energies is not None:
            cells.append(f"{energies[0][n]:.4f}" if isfinite(energies[0][n]) else "–")
        rows.append((f"{result.temperature[n]:g}", *cells))
    # Draw a line at T_g, unless it lies beyond the first or last row.
    above = int((result.temperature > result.glass_temperature).sum())
    ends = frozenset({above - 1} if 0 < above < len(rows) else ())
    return TextTable(f"{name} ({what})", tuple(headings), tuple(rows), ends=ends, n_labels=0)


def training_sentences(card: dict[str, Any]) -> list[str]:
    """Sentences on the training data and the accuracy."""
    from phaseseg.training.card import members_sentence

    data, scores = card["data"], card["training"]["validation"]
    learned = (
        f"{data['configurations']:,} configurations of {data['runs']:,} runs, {data['glass']:,} glass and "
        f"{data['liquid']:,} liquid; split {card['split']}."
    )
    found = (
        f"Validation, {scores['windows']:,} windows: AUC {scores['auc']:.4f} ± {scores['auc_spread']:.4f}, "
        f"{scores['accuracy']:.2%} correct"
    )
    if "whole_cell_accuracy" in scores:
        found += f"; whole cells {scores['whole_cell_accuracy']:.2%}"
    sentences = [learned, members_sentence(card), f"{found}."]
    if "search" in card:
        search = card["search"]
        auc, spread = search["test_auc"]
        searched = search["folds"]["rows"][0][1]
        chosen = ", ".join(f"{name} {search['chosen'][name]}" for name in searched)
        sentences.append(
            f"Search: test AUC {auc:.4f} ± {spread:.4f} on folds not used to choose settings; "
            f"chosen: {chosen}."
        )
    return sentences


def demo(output: Path) -> Demonstration:
    """Analyze four bundled liquids that are cooled into the glass."""
    table = output / "glass_ka2d.json"
    with as_file(files("phaseseg") / "demo") as folder:
        metrics_command(
            [folder / f"glass_ka2d_s{seed}.xyz.gz" for seed in (901, 902, 903, 904)], table,
            report=output / "glass_ka2d", quiet=True,
        )  # fmt: skip
    found = json.loads(table.read_text("utf-8"))
    means = sorted(found["tables"]["means"], key=lambda row: row["temperature"])
    (cold, few), (hot, many) = ((row["temperature"], row["n_bb_edges"]) for row in (means[0], means[-1]))
    meaning = f"edges join two B particles at T = {hot:g}, and {few:.1f} in the glass at T = {cold:g}"
    return Demonstration(
        "Liquid or glass: three structural metrics were counted in four runs that cool into the glass.",
        ((f"{many:.1f}", meaning),),
        [output / "glass_ka2d" / "report.html"], "phaseseg metrics YOUR_RUNS*.xyz --report glass",
    )  # fmt: skip
