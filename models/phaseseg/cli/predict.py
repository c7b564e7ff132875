"""`phaseseg predict`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import typer

from phaseseg.families import DEFAULT, FAMILIES, BondFile, load
from phaseseg.terminal import options
from phaseseg.terminal.bonds import bonds_file, bonds_path, rule_with_bonds
from phaseseg.terminal.cluster import workers_at
from phaseseg.terminal.errors import exit_codes, usage_errors
from phaseseg.terminal.flags import Flag, option_flags, refuse_others, with_flags
from phaseseg.terminal.run import FrameRun, check_folder, frame_reader, in_order, output_kind
from phaseseg.terminal.show import frame_bar
from phaseseg.terminal.slabs import PREDICTED_BYTES, not_in_slabs, run_slabs, slabs_wanted


def predict_word() -> Callable[..., None]:
    """Build the command, with the options of all families."""
    return with_flags(_predict, option_flags(FAMILIES.values(), "run", "read"), after="output")


def _predict(
    context: typer.Context,
    given: Mapping[Flag, Any],
    input: options.Input,
    model: options.Model = FAMILIES[DEFAULT].default,
    output: options.FramesOrTables = None,
    device: options.Device = "auto",
    types: options.Types = None,
    names: options.Names = None,
    cell: options.Cell = None,
    units: options.Units = None,
    dt: options.TimeStep = None,
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
) -> None:
    """Apply a trained network to every frame of a file."""
    with exit_codes(options.left_behind(output, resume)):
        from phaseseg.api import load_model, predictor, prepare
        from phaseseg.io import OutputError
        from phaseseg.nn.device import check_device

        network = load_model(model)
        family, name = FAMILIES[network.checkpoint.family], network.checkpoint.name
        summary_type = load(family.summary or "phaseseg.summary:FrameSummary")
        with usage_errors():
            refuse_others(given, network.checkpoint)
            if report is not None and not hasattr(summary_type, "write_report"):
                raise ValueError(f"networks of the family {family.name} have no report; omit --report.")
            scene = options.scene(view, report)
            check_device(device)
            check_folder(report, OutputError)
            options.at_least("--workers", workers, 1)
            options.one_of_both(workers, scheduler)
            kind = output_kind(output, input)
            chosen = {flag.name: flag.value(value) for flag, value in given.items()}
            files: dict[BondFile, Path] = {}
            for bonds in family.bond_files:
                if bonds.option in chosen:
                    files[bonds] = bonds_path(chosen[bonds.option], input, output)
                    chosen[bonds.option] = True
            rule = rule_with_bonds(network, family, chosen) if view else network.rule(**chosen)
            reading: dict[str, Any] = {
                "types": types, "names": names, "cell": cell, "frames": frames, "dt": dt, "format": format,
                "units": units, "fields": kind == "frames" or getattr(rule, "reads_fields", False),
            }  # fmt: skip
            reader = frame_reader(input, **reading)
            settings = rule.to_dict() | {"device": device, "sha256": network.checkpoint.hash}
            n_slabs = 1
            if resume is not None and not family.slabs:
                raise ValueError(f"{name} does not work on frames in slabs on disk; omit --resume.")
            if family.slabs or slabs != "auto":
                n_slabs = slabs_wanted(
                    slabs, input, PREDICTED_BYTES, format=format, quiet=quiet, doing="predicted",
                    scheduler=scheduler if family.slabs else None, resume=resume,
                )  # fmt: skip
            if n_slabs > 1 and family.slabs:
                not_in_slabs(report=report is not None, **{one.option: one in files for one in files})
        if n_slabs > 1 and family.slabs:
            shown = not quiet and not as_json
            with workers_at(scheduler) as cluster, frame_bar(input.name, shown=shown) as bar:
                run = run_slabs(
                    input, n_slabs, partial(_in_slabs, load(family.slabs), network, rule, device), bar,
                    output=output if kind == "frames" else None, doing=f"predicting with {name}",
                    begin=lambda _: FrameRun(
                        input.name, summary_type(rule, input.name), "predicted", settings
                    ),
                    resume=resume, rule={"command": "predict", **settings}, cluster=cluster, **reading,
                )  # fmt: skip
            run.finish(output if kind == "tables" else None, None, [output], as_json=as_json, quiet=quiet)
            return
        shown = not quiet and not as_json
        with (
            workers_at(scheduler) as cluster,
            frame_bar(input.name, shown=shown) as bar,
            ExitStack() as stack,
        ):
            seen = bar.frames(reader(), f"fitting {name} to all frames")
            ready = prepare(network, seen, rule, progress=bar.inside)
            # Given a name instead of the model, each process reads the file once. A cluster gets the model.
            alone = workers == 1 and cluster is None
            function = predictor(
                model if workers > 1 and cluster is None and ready is network else ready, rule, device=device,  # type: ignore[arg-type]
                progress=bar.inside if alone else None, slabs=n_slabs,
            )  # fmt: skip
            run = FrameRun(
                input.name, summary_type(rule, input.name), "predicted",
                settings,
                [stack.enter_context(bonds_file(path, bonds)) for bonds, path in files.items()],
                scene=scene,
            )  # fmt: skip
            frames_to = output if kind == "frames" else None
            if cluster is None:
                pairs = in_order(function, reader(), workers)
            else:
                pairs = cluster.results(reader, function, run, frames_to, whole=bool(files) or view)
            run.write(bar.frames(run.results(pairs), f"predicting with {name}"), frames_to)
        run.finish(
            output if kind == "tables" else None, report, [output, *files.values()], as_json=as_json,
            quiet=quiet,
        )  # fmt: skip


def _in_slabs(
    predict: Callable[..., Any], network: Any, rule: Any, device: str, store: Any, disk: Any, n_slabs: int,
    progress: Any,
) -> Any:  # fmt: skip
    return predict(store, disk, n_slabs, network, rule, device=device, progress=progress)
