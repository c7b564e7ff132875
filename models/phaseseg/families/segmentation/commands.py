"""Commands of this family: `label`, `select` and its part of `demo`."""

from __future__ import annotations

from functools import partial
from importlib.resources import as_file, files
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.terminal import options
from phaseseg.terminal.cluster import workers_at
from phaseseg.terminal.demonstration import Demonstration
from phaseseg.terminal.errors import exit_codes, usage_errors
from phaseseg.terminal.options import at_least, number_or_name, split_names
from phaseseg.terminal.run import (
    FrameRun,
    check_folder,
    frame_reader,
    in_order,
    name_of,
    output_kind,
    run_readers,
)
from phaseseg.terminal.show import frame_bar, note, show, show_json
from phaseseg.terminal.slabs import not_in_slabs, run_slabs, slabs_wanted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from phaseseg.families.segmentation.rules import FixedRule
    from phaseseg.fields import Fields, Table
    from phaseseg.frame import Frame
    from phaseseg.large.disk import Disk
    from phaseseg.large.store import FrameStore, InSlabs
    from phaseseg.report import TextTable
    from phaseseg.specs import Progress

DEFAULT = LabelRule()
BYTES_PER_ATOM = 250
"""Memory for each atom of a frame that is labeled whole, with the text that is read."""
MELTS = ("melt_large_3000K", "melt_small_3000K")
"""Of the demonstration: one frame of a large cell, and a trajectory, whose numbers have errors."""


def label_command(
    input: options.Input,
    output: options.FramesOrTables = None,
    species: Annotated[
        str | None,
        typer.Option(
            help="Species enriched in the rich phase, or name:OW, residue:SOL; separate several with commas. "
            "Default: Fe, or else the species that separates best."
        ),
    ] = None,
    types: options.Types = None,
    names: options.Names = None,
    cell: options.Cell = None,
    sigma: Annotated[
        str, typer.Option(help="Width of the Gaussian, Å; auto: from the density of the rich phase.")
    ] = str(DEFAULT.sigma),
    voxel: Annotated[float | None, typer.Option(help="Voxel edge, Å; default: sigma/2.")] = None,
    field: Annotated[str, typer.Option(help="number | mole-fraction")] = DEFAULT.field,
    boundary_width: Annotated[
        float | None,
        typer.Option(help="Thickness of the boundary, Å; default: 0.68 for Fe, else 0.34 sigma."),
    ] = None,
    threshold: Annotated[str, typer.Option(help="steepest | two-means | midpoint | a number")] = str(
        DEFAULT.threshold
    ),
    pooled: Annotated[
        bool, typer.Option("--pooled", help="Use one threshold for all frames (reads the file twice).")
    ] = False,
    average: Annotated[float | None, typer.Option(help="Average densities over ± this time (ps).")] = None,
    dt: options.TimeStep = None,
    keep: Annotated[str, typer.Option(help="Rich domains to keep: all | largest")] = DEFAULT.keep,
    min_volume: Annotated[
        float | None, typer.Option(help="Smallest rich domain, Å^3; default: 25 sigma^3.")
    ] = None,
    at: Annotated[str, typer.Option(help="Where phases are assigned: atom | voxel")] = DEFAULT.at,
    by: Annotated[
        str,
        typer.Option(help="atom | molecule (all its atoms go where its center of mass is) | auto"),
    ] = DEFAULT.by,
    phases: Annotated[str, typer.Option(help="auto, or 2 to always separate two phases.")] = str(
        DEFAULT.phases
    ),
    bulk_distance: Annotated[
        float | None,
        typer.Option(help="Distance from the interface at which the bulk begins, Å; default: 2.5 sigma."),
    ] = None,
    frames: options.Frames = None,
    workers: options.Workers = 1,
    scheduler: options.Scheduler = None,
    slabs: options.Slabs = "auto",
    resume: options.ResumeFolder = None,
    format: options.Format = None,
    report: options.ReportFolder = None,
    view: options.View = False,
    boundary_scan: Annotated[
        bool, typer.Option("--boundary-scan", help="Find the boundary width with the least variance.")
    ] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Label every atom as rich, poor or boundary, and report compositions with error bars."""
    with exit_codes(options.left_behind(output, resume)):
        from phaseseg.families.segmentation.report import RunSummary
        from phaseseg.io import OutputError

        with usage_errors():
            rule = LabelRule(
                species=() if species is None else split_names(species), sigma=number_or_name(sigma),
                voxel=voxel, field=field, at=at, by=by, keep=keep,  # type: ignore[arg-type]
                threshold=number_or_name(threshold), min_volume=min_volume, boundary_width=boundary_width,
                phases=2 if phases == "2" else phases, bulk_distance=bulk_distance,  # type: ignore[arg-type]
            )  # fmt: skip
            at_least("--workers", workers, 1)
            options.one_of_both(workers, scheduler)
            if average is not None and not average > 0:
                raise ValueError(f"--average must be a positive time in ps, found {average}.")
            if pooled and not isinstance(rule.threshold, str):
                raise ValueError(
                    "--pooled determines one threshold for all frames; do not give --threshold a number."
                )
            check_folder(report, OutputError)
            scene = options.scene(view, report)
            kind = output_kind(output, input)
            reading: dict[str, Any] = {
                "types": types, "names": names, "cell": cell, "frames": frames, "dt": dt, "format": format,
                "fields": kind == "frames",
            }  # fmt: skip
            reader = frame_reader(input, **reading)
            n_slabs = slabs_wanted(
                slabs, input, BYTES_PER_ATOM, format=format, quiet=quiet, doing="labeled",
                scheduler=scheduler, resume=resume,
            )  # fmt: skip
            if n_slabs > 1:
                not_in_slabs(
                    average=average is not None, pooled=pooled, report=report is not None,
                    boundary_scan=boundary_scan,
                )  # fmt: skip
        shown = not quiet and not as_json
        if n_slabs > 1:
            with workers_at(scheduler) as cluster, frame_bar(input.name, shown=shown) as bar:
                written, begin = output if kind == "frames" else None, partial(_run_of, input.name)
                make = _LabelInSlabs(rule)
                run = run_slabs(
                    input, n_slabs, make, bar, output=written, doing="labeling", begin=begin, resume=resume,
                    rule={"command": "label", **rule.to_dict()}, cluster=cluster, **reading,
                )  # fmt: skip
            run.finish(output if kind == "tables" else None, None, [output], as_json=as_json, quiet=quiet)
            return
        ignored = "--scheduler" if scheduler is not None else "--workers" if workers > 1 else ""
        if average is not None:
            scheduler = None
            if ignored and not quiet:
                note(f"--average labels the frames in order in one process; {ignored} is ignored.")
        with workers_at(scheduler) as cluster, frame_bar(input.name, shown=shown) as bar:
            if cluster is not None:
                fixed, frames_read = cluster.of_frames(partial(_rule_for, rule), reader), reader()
            else:
                from phaseseg.families.segmentation.labels.automatic import rule_for

                fixed, frames_read = rule_for(reader(), rule)
            if pooled:
                from phaseseg.families.segmentation.labels.threshold import pooled_threshold

                fixed = pooled_threshold(bar.frames(frames_read, "finding one threshold"), fixed)
                frames_read = reader()
            settings = fixed.to_dict() | {"voxel": fixed.voxel_size, "average": average}
            summary = RunSummary(fixed, input.name, average=average, scan=boundary_scan)
            run = FrameRun(input.name, summary, "labeled", settings, scene=scene)
            label = partial(_label, rule=fixed)
            frames_to = output if kind == "frames" else None
            if cluster is not None:
                pairs = cluster.results(reader, label, run, frames_to, whole=view or boundary_scan)
            elif average is None:
                pairs = in_order(label, frames_read, workers)
            else:
                from phaseseg.families.segmentation.labels.weak_labels import label_trajectory

                pairs = label_trajectory(frames_read, fixed, average=average)
            run.write(bar.frames(run.results(pairs), "labeling"), frames_to)
        run.finish(output if kind == "tables" else None, report, [output], as_json=as_json, quiet=quiet)


def _rule_for(rule: LabelRule, frames: Iterable[Frame]) -> FixedRule:
    from phaseseg.families.segmentation.labels.automatic import rule_for

    return rule_for(frames, rule)[0]


def _label(frame: Frame, rule: FixedRule) -> Fields:
    """Where a worker labels the frame, the command does not load what is compiled."""
    from phaseseg.families.segmentation.labels.weak_labels import label_frame

    return label_frame(frame, rule)


class _LabelInSlabs:
    """Labels frames in slabs, by the rule that the first one determines."""

    def __init__(self, rule: LabelRule) -> None:
        self._rule = rule

    def __call__(self, store: FrameStore, disk: Disk, n_slabs: int, progress: Progress) -> InSlabs:
        from phaseseg.families.segmentation.labels.in_slabs import label_slabs
        from phaseseg.families.segmentation.labels.slabs import SlabWork

        found = label_slabs(SlabWork(store, disk, n_slabs, progress), self._rule)
        self._rule = found.rule
        return found


def _run_of(name: str, first: InSlabs) -> FrameRun:
    from phaseseg.families.segmentation.report import RunSummary

    rule = first.rule
    settings = rule.to_dict() | {"voxel": rule.voxel_size, "average": None}
    return FrameRun(name, RunSummary(rule, name), "labeled", settings)


def select_command(
    input: Annotated[list[Path], typer.Argument(help="Trajectories to select from.")],
    model: options.Model,
    n: Annotated[int, typer.Option("-n", "--number", help="Number of frames to select.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="List to write: .csv or .json.")
    ] = None,
    labeled: Annotated[
        list[Path] | None,
        typer.Option(help="Trajectory that is already labeled, to select different frames; may be repeated."),
    ] = None,
    types: options.Types = None,
    names: options.Names = None,
    cell: options.Cell = None,
    frames: options.Frames = None,
    device: options.Device = "auto",
    format: options.Format = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Select the frames most worth labeling next: uncertain frames that differ from each other."""
    with exit_codes(f"{output} was not written." if output else ""):
        from phaseseg.checkpoint import load_checkpoint
        from phaseseg.families.segmentation.model import SegmentationModel
        from phaseseg.families.segmentation.selection import choice_table, describe, select_frames
        from phaseseg.io import write_table

        with usage_errors():
            at_least("-n", n, 1)
            if output is not None and output_kind(output, input[0]) != "tables":
                raise ValueError(f"{output.name}: the list is written as .csv or .json.")
            readers = run_readers(input, types=types, names=names, cell=cell, frames=frames, format=format)
            known = run_readers(labeled or [], types=types, names=names, cell=cell, format=format)
        network = SegmentationModel(load_checkpoint(model))
        look = partial(describe, model=network, device=device)
        with frame_bar(name_of(input), shown=not quiet and not as_json) as bar:
            candidates, others = (
                [
                    look(frame, run=run, number=k if frame.index is None else frame.index)
                    for run, read in some.items()
                    for k, frame in enumerate(bar.frames(read(), f"evaluating {run}"))
                ]
                for some in (readers, known)
            )
        table = choice_table(select_frames(candidates, n, labeled=others))
        if output is not None:
            write_table(output, table)
        if as_json:
            show_json({"model": network.name, "chosen": table})
        elif not quiet:
            note(*bar.heard.messages())
            show([_choice(table, len(candidates))])
        if output and not quiet:
            note(f"Written: {output}")


def _choice(table: Table, n_candidates: int) -> TextTable:
    from phaseseg.report import TextTable

    def cell(heading: str, value: Any) -> str:
        if isinstance(value, str) or not isfinite(value):
            return value if isinstance(value, str) else "–"
        return f"{value:.0f}" if heading in ("frame", "timestep") else f"{value:.4g}"

    cells = [[cell(*one) for one in row.items()] for row in table.rows()]
    return TextTable(f"{table.title}, of {n_candidates}", list(table.columns), cells)


def training_sentences(card: dict[str, Any]) -> list[str]:
    """Return sentences on the training data, the members and the validation scores."""
    from phaseseg.training.card import members_sentence

    data, scores = card["data"], card["training"]["validation"]
    learned = f"{data['frames']:,} frames with {data['atoms']:,} atoms in total; split {card['split']}."
    found = (
        f"Validation, {scores['atoms']:,} atoms: {scores['error']:.2%} on the wrong side; distances near the "
        f"interface off by {scores['distance_bias_near_interface']:+.2f} ± "
        f"{scores['distance_rms_near_interface']:.2f} Å; expected calibration error "
        f"{scores['expected_calibration_error']:.3f}."
    )
    return [learned, members_sentence(card), found]


def demo(output: Path) -> Demonstration:
    """Label two bundled melts at 3000 K."""
    from phaseseg.families.segmentation.labels.automatic import rule_for
    from phaseseg.families.segmentation.labels.weak_labels import label_frame
    from phaseseg.families.segmentation.report import RunSummary
    from phaseseg.io import read_frames

    melts = files("phaseseg") / "demo"
    shown = []
    for name in MELTS:
        with as_file(melts / f"{name}.dump.gz") as path, frame_bar(name, shown=True) as bar:
            rule, frames = rule_for(read_frames(path, dt=0.001), DEFAULT)
            summary = RunSummary(rule, path.name, scan="small" in name)
            run = FrameRun(path.name, summary, "labeled", {})
            results = run.results(in_order(partial(label_frame, rule=rule), frames))
            run.write(bar.frames(results, "labeling"), output / f"{name}.xyz")
        shown.append((summary.write_report(output / name, {"seconds": run.seconds}), summary.tables()))
    page, tables = shown[0]
    iron = {row["phase"]: row["Fe (wt%)"] for row in tables["composition"].rows()}
    area = next(row["mean"] for row in tables["scalars"].rows() if row["name"] == "interface_area")
    return Demonstration(
        f"Two liquids: every atom of {len(MELTS)} melts of iron and silicate was labeled.",
        (
            (f"{iron['rich']:.1f} %", f"of the metal at 3000 K is Fe; of the silicate, {iron['poor']:.1f} %"),
            (f"{area:,.0f} Å^2", "of interface lie between them"),
        ),
        [page], "phaseseg label YOUR_MELT.dump -o labeled.xyz --report report",
    )  # fmt: skip
