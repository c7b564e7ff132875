"""Commands of this family: `phaseseg metrics`, and its part of `phaseseg demo`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.resources import as_file, files
from math import isfinite, nan
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phaseseg.display import plural
from phaseseg.terminal import options
from phaseseg.terminal.errors import exit_codes, usage_errors
from phaseseg.terminal.options import at_least, numbers, split_names
from phaseseg.terminal.run import Reader, check_folder, name_of, output_kind, run_readers, write_results
from phaseseg.terminal.show import frame_bar, note, show, show_json
from phaseseg.version import __version__

if TYPE_CHECKING:
    from phaseseg.families.liquid_glass.transition.result import Transition
    from phaseseg.fields import Table
    from phaseseg.frame import Frame
    from phaseseg.report import TextTable

COUNTS = (
    "n_disjoint_graphs", "n_bb_edges", "n_isolated_a",
    "disjoint_graphs_per_particle", "bb_edges_per_particle", "isolated_a_per_particle",
)  # fmt: skip
FROM_FILE = ("inherent_energy", "potential_energy", "seed", "cooling_steps")
RULES = ("all", "b-only")


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
    format: options.Format = None,
    report: options.ReportFolder = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:  # fmt: skip
    """Count disjoint graphs, B–B edges and isolated A; test them for a change of slope at T_g."""
    with exit_codes(f"{output} was not written." if output else ""):
        from phaseseg.families.liquid_glass.transition.analysis import analyze_transition
        from phaseseg.fields import MessageCounter
        from phaseseg.report import duration

        with usage_errors():
            for flag, value, low in (("--k", k, 1), ("--bootstrap", bootstrap, 0), ("--workers", workers, 1)):
                at_least(flag, value, low)
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
            readers = run_readers(input, types=types, names=names, cell=cell, frames=frames, format=format)
            for path in input:
                if input.count(path) > 1:
                    raise ValueError(f"{path} is given twice; each file must be a different run.")
        species = split_names(b)
        start = perf_counter()
        name = name_of(input)
        with frame_bar(name, shown=not quiet and not as_json) as bar:
            count = partial(_count, b=species, k=k, rule=rule)
            rows = _rows(readers, count, workers, lambda found: bar.frames(found, "counting"))
        _put_temperatures(rows, key, listed, required=temperature is not None)
        table = _table(rows)
        seconds = perf_counter() - start
        nothing = (
            f"No frame has a {key!r}, so metrics are counted but not analyzed. Name another key with "
            "--temperature, or give --temperatures."
        )
        counter = MessageCounter()
        for row in rows:
            counter.add(row["messages"])
        result, messages = None, [*counter.messages(), nothing]
        filled = _table([row for row in rows if row["n_atoms"]])
        if any(map(isfinite, filled.columns["temperature"])):
            result = analyze_transition(filled, glass_temperature=tg, n_bootstrap=bootstrap)
            messages = [*counter.messages(), *result.messages]
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


def _listed(text: str | None) -> list[float] | None:
    if text is None:
        return None
    found = list(numbers(text, "--temperatures", "1.99,0.44,0.05"))
    if not all(isfinite(value) and value > 0 for value in found):
        raise ValueError(f"--temperatures must be above 0, found {text!r}.")
    return found


def _count(frame: Frame, b: tuple[str, ...], k: int, rule: Any) -> dict[str, Any]:
    """Return the row of a frame; also called in worker processes."""
    from phaseseg.families.liquid_glass.structural_metrics import glass_metrics
    from phaseseg.fields import fields_or_none

    fields = fields_or_none(partial(glass_metrics, b=b, k=k, rule=rule), frame)
    return {
        "source": frame.source, "index": frame.index, "n_atoms": frame.n_atoms,
        "n_dimensions": frame.n_dimensions, "info": dict(frame.info),
        "messages": fields.messages, **{name: fields.get(name, nan) for name in COUNTS},
    }  # fmt: skip


def _rows(
    readers: Mapping[str, Reader],
    count: Callable[[Frame], dict[str, Any]],
    workers: int,
    shown: Callable[[Iterator[Any]], Iterator[Any]],
) -> list[dict[str, Any]]:
    from phaseseg.trajectory import map_frames

    places: list[tuple[str, int]] = []

    def read() -> Iterator[Frame]:
        for run, reader in readers.items():
            for order, frame in enumerate(reader()):
                places.append((run, order))
                yield frame

    rows = list(shown(map_frames(count, read(), workers=workers)))
    if not rows:
        raise ValueError(f"{next(iter(readers))}: the file has no frames.")
    for row, (run, order) in zip(rows, places, strict=True):
        row |= {"run": run, "order": order, "frame": order if row["index"] is None else row["index"]}
    flat = {row["n_dimensions"]: row["source"] for row in reversed(rows) if row["n_atoms"]}
    if len(flat) > 1:
        raise ValueError(
            f"{flat[2]} has two dimensions and {flat[3]} three. They cannot be analyzed together; analyze "
            "them separately."
        )
    return rows


def _put_temperatures(
    rows: list[dict[str, Any]], key: str, listed: list[float] | None, *, required: bool
) -> None:
    """Set the temperature of every row, from the list or the file; NaN if unknown."""
    if listed is not None:
        for run, n_frames in Counter(row["run"] for row in rows).items():
            if n_frames != len(listed):
                raise ValueError(
                    f"{run}: {n_frames} frames were read, but --temperatures has {len(listed)}; give one "
                    "for each frame."
                )
    for row in rows:
        value = listed[row["order"]] if listed is not None else row["info"].get(key, nan)
        if required and not isfinite(value):
            keys = ", ".join(row["info"]) or "no numbers"
            raise ValueError(
                f"{row['source']}: there is no temperature {key!r}; the frame has {keys}. Name one of these "
                "with --temperature, or give --temperatures."
            )
        if isfinite(value) and value <= 0:
            raise ValueError(
                f"{row['source']}: the temperature is {value:g}; it must be above 0. Give --temperatures."
            )
        row["temperature"] = float(value)


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    import numpy as np

    from phaseseg.fields import Table

    table = Table.of_rows("Structural metrics", rows, ("run", "frame", "temperature", "n_atoms", *COUNTS))
    columns: dict[str, Any] = dict(table.columns)
    for name in FROM_FILE:
        values = np.array([float(row["info"].get(name, nan)) for row in rows])
        if np.isfinite(values).any():
            whole = np.isfinite(values).all() and (values == np.round(values)).all()
            columns[name] = values.astype(np.int64) if whole and "energy" not in name else values
    return Table(table.title, columns)


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


def demo(output: Path) -> None:
    """Analyze four bundled liquids that are cooled into the glass."""
    with as_file(files("phaseseg") / "demo") as folder:
        metrics_command(
            [folder / f"glass_ka2d_s{seed}.xyz.gz" for seed in (901, 902, 903, 904)],
            output / "glass_ka2d.csv", report=output / "glass_ka2d",
        )  # fmt: skip
