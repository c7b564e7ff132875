"""Commands of this family: `mine`, and its part of `demo`."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phaseseg.display import plural
from phaseseg.terminal import options
from phaseseg.terminal.cluster import workers_at
from phaseseg.terminal.demonstration import Demonstration
from phaseseg.terminal.errors import exit_codes, usage_errors
from phaseseg.terminal.options import at_least
from phaseseg.terminal.run import add_atoms, check_folder, check_place, frame_slice, name_of, write_results
from phaseseg.terminal.show import note, show, show_json, work_bar
from phaseseg.version import __version__

if TYPE_CHECKING:
    from phaseseg.checkpoint import Checkpoint
    from phaseseg.families.environments.dataset import DataSet
    from phaseseg.families.environments.mining import Mined
    from phaseseg.report import TextTable
    from phaseseg.specs import Progress

METHODS = ("mixture", "communities", "tree", "kmeans", "threshold", "meagraph", "none")
SELECTIONS = ("coverage", "strata", "random", "group", "kmeans", "farthest", "entropy", "leverage")
DEMO = "metals.xyz.gz"

KEY = "Name of the {}; guessed among the usual ones if left out, none for no {}."


def mine_command(
    input: Annotated[
        list[Path],
        typer.Argument(
            help="Data set: extended XYZ, ASE databases, LAMMPS dumps or any ASE format; also .gz, .zst.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o",
            help="The subset of --prune, or else the configurations of --suggest, or else the set with what "
            "was found of each atom: .xyz or .extxyz, also .gz, .zst. Tables instead: .json or .csv.",
        ),
    ] = None,
    descriptor: Annotated[
        str | None,
        typer.Option(
            help="power-spectrum (default), array:NAME of the files, or file:PATH (.npy, .csv, .json)."
        ),
    ] = None,
    cutoff: Annotated[
        float | None,
        typer.Option(help="Cutoff of the power spectrum, Å; by default 5, or that of --network."),
    ] = None,
    cluster: Annotated[str, typer.Option(help=" | ".join(METHODS))] = METHODS[0],
    n_clusters: Annotated[
        int | None, typer.Option(help="Number of clusters; chosen by the method if left out.")
    ] = None,
    distance: Annotated[
        float | None, typer.Option(help="Distance of connected environments, for --cluster threshold.")
    ] = None,
    network: Annotated[
        Path | None,
        typer.Option(
            help="Network for --cluster meagraph, from train environments; by default that of tantalum."
        ),
    ] = None,
    prune: Annotated[
        float | None, typer.Option(help="Choose a subset with this share of the atoms, such as 0.05.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="What the subset is made of: configurations | atoms")
    ] = "configurations",
    selection: Annotated[
        str | None,
        typer.Option(
            help=" | ".join(SELECTIONS) + "; by default coverage for configurations, strata for atoms"
        ),
    ] = None,
    outliers: Annotated[bool, typer.Option("--outliers", help="Score every atom by its structure.")] = False,
    audit: Annotated[
        bool, typer.Option("--audit", help="Compare energies and forces with a robust fit.")
    ] = False,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Second data set: find what it has that the first one lacks; may be repeated."),
    ] = None,
    suggest: Annotated[
        int, typer.Option(help="Number of configurations of --against to suggest for the data set.")
    ] = 0,
    energy: Annotated[str | None, typer.Option(help=KEY.format("energy", "energy"))] = None,
    forces: Annotated[str | None, typer.Option(help=KEY.format("forces", "forces"))] = None,
    group: Annotated[str | None, typer.Option(help=KEY.format("group of a configuration", "group"))] = None,
    types: options.Types = None,
    names: options.Names = None,
    frames: options.Frames = None,
    format: options.Format = None,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn at random.")] = 0,
    scheduler: options.Scheduler = None,
    report: options.ReportFolder = None,
    map: Annotated[
        Path | None, typer.Option("--map", help="Map for chemiscope to write: .json or .json.gz.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint of the clusters to write, for predict, OVITO and ASE: .safetensors."
        ),
    ] = None,
    view: options.View = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:  # fmt: skip
    """Curate a data set for force fields: clusters, duplicates, outliers, wrong labels, subsets and gaps."""
    with exit_codes(f"{output} was not written." if output else ""):
        from phaseseg.families.environments.coverage import checked_budget
        from phaseseg.families.environments.mining import mine

        with usage_errors():
            _check_choices(cluster, by, selection)
            if prune is not None:
                checked_budget(prune)
            at_least("--suggest", suggest, 0)
            at_least("--seed", seed, 0)
            if suggest and not against:
                raise ValueError("--suggest chooses from another data set; name it with --against.")
            kind = _output_kind(output, [*input, *(against or [])])
            check_folder(report)
            scene = options.scene(view, report)
            if map is not None:
                _check_map(map, [*input, *(against or [])])
            _check_model(model, cluster)
            chosen = _cluster_options(cluster, n_clusters, distance, network)
            keys = {name: _key(value) for name, value in
                    {"energy": energy, "forces": forces, "group": group}.items()}  # fmt: skip
            reading = _reading(types, names, frames, format)
        if network is not None:
            from phaseseg.checkpoint import load_checkpoint

            chosen["network"] = load_checkpoint(str(network))
        start, name = perf_counter(), name_of(input)
        with workers_at(scheduler) as elsewhere, work_bar(quiet or as_json) as bar:
            data = _read(input, keys, reading, bar)
            # A pool need not have labels.
            other = _read(against, keys | {"energy": "", "forces": ""}, reading, bar) if against else None
            describe, described = _descriptor(descriptor, cutoff, data, other, chosen.get("network"))
            # Rows of a file are for its configurations in order.
            spread = None
            if elsewhere is not None and not str(descriptor).startswith("file:"):
                spread = elsewhere.spread
            mined = mine(
                data, descriptor=describe, name=described, method=cluster, options=chosen, budget=prune,
                by=by, selection=selection, outliers=outliers, audit=audit, against=other,  # type: ignore[arg-type]
                n_suggested=suggest, seed=seed, progress=lambda done, line: bar(0.1 + 0.8 * done, line),
                mapped=spread,
            )  # fmt: skip
            written = _write(mined, output if kind == "configurations" else None, report, map, name, bar)
            if scene is not None and report is not None:
                from phaseseg.families.environments.shown import add_listed

                add_listed(scene, mined)
                add_atoms(report / "report.html", scene, name)
            if model is not None:
                written.append(_write_model(model, mined, describe, chosen, seed))
        table = output if kind == "tables" else None
        _print(mined, name, perf_counter() - start, written, table, as_json=as_json, quiet=quiet)


# Input ---------------------------------------------------------------------------------------------


def _check_choices(cluster: str, by: str, selection: str | None) -> None:
    for flag, value, known in (
        ("--cluster", cluster, METHODS), ("--by", by, ("configurations", "atoms")),
        ("--selection", selection or SELECTIONS[0], SELECTIONS),
    ):  # fmt: skip
        if value not in known:
            raise ValueError(f"{flag} must be one of {', '.join(known)}, found {value!r}.")


def _cluster_options(
    method: str, n_clusters: int | None, distance: float | None, network: Path | None
) -> dict[str, Any]:
    if n_clusters is not None:
        at_least("--n-clusters", n_clusters, 1)
    if method == "threshold" and distance is None:
        raise ValueError("--cluster threshold needs --distance.")
    if network is not None and method != "meagraph":
        raise ValueError("--network is for --cluster meagraph.")
    given = {"n_clusters": n_clusters, "distance": distance}
    return {name: value for name, value in given.items() if value is not None}


def _key(given: str | None) -> str | None:
    return "" if given == "none" else given


def _reading(types: str | None, names: str | None, frames: str | None, format: str | None) -> dict[str, Any]:
    from phaseseg.io.reading import name_table, type_table

    type_table(types)
    name_table(names)
    given = {"types": types, "names": names, "frames": frame_slice(frames), "file_format": format}
    return {name: value for name, value in given.items() if value is not None}


def _read(paths: list[Path], keys: dict[str, Any], reading: dict[str, Any], bar: Progress) -> DataSet:
    from phaseseg.families.environments.dataset import read_data_set

    return read_data_set(
        *paths, **keys, columns=True, progress=lambda done, line: bar(0.1 * done, line), **reading
    )


def _descriptor(
    text: str | None, cutoff: float | None, data: DataSet, other: DataSet | None, network: Checkpoint | None
) -> tuple[Any, str]:
    """The function of a frame that --descriptor names, or that of the network, and its description."""
    if text is None and cutoff is None and network is not None:
        from phaseseg.families.environments.learn import descriptor_from

        known = descriptor_from(network.config.get("descriptor") or {"kind": "file"})
        if known is not None:
            return known, ""
    if text in (None, "power-spectrum"):
        from phaseseg.families.environments.descriptors import PowerSpectrum

        species = tuple(sorted({*data.species, *(other.species if other else ())}))
        return PowerSpectrum(species, cutoff=PowerSpectrum.cutoff if cutoff is None else cutoff), ""
    from phaseseg.families.environments.sources import ArrayRows, FileRows

    kind, _, rest = str(text).partition(":")
    if kind == "array" and rest:
        return ArrayRows(rest), f"the array {rest}"
    if kind == "file" and rest:
        if other is not None:
            raise ValueError("a file has descriptors of one set; use array:NAME where two sets are compared.")
        return FileRows(rest).begin(list(data.frames)), f"the file {Path(rest).name}"
    raise ValueError(f"--descriptor must be power-spectrum, array:NAME or file:PATH, found {text!r}.")


# Output --------------------------------------------------------------------------------------------


def _output_kind(output: Path | None, inputs: list[Path]) -> str:
    """Return "configurations", "tables" or "" for no output; ValueError for a name that is neither."""
    if output is None:
        return ""
    for path in inputs:
        check_place(output, input=path)
    from phaseseg.io.packing import WRITTEN, bare_name

    name = output.name.lower()
    if name.endswith((".csv", ".json")):
        return "tables"
    if bare_name(name, WRITTEN).endswith((".xyz", ".extxyz")):
        return "configurations"
    raise ValueError(
        f"{output.name}: configurations are written as .xyz or .extxyz (also .gz, .zst), tables as .csv or "
        ".json."
    )


def _check_map(path: Path, inputs: list[Path]) -> None:
    from phaseseg.families.environments.map import check_map_name, chemiscope_package

    check_map_name(path)
    for one in inputs:
        check_place(path, input=one)
    chemiscope_package()  # report a missing package before the work starts


def _write(
    mined: Mined, output: Path | None, report: Path | None, map: Path | None, name: str, bar: Progress
) -> list[str]:
    """Write what was asked for; return a sentence about each file."""
    said = []
    if output is not None:
        bar(0.92, f"writing {output.name}")
        if mined.pruned is None and mined.suggestion is not None and not len(mined.suggestion.configurations):
            said.append(f"{output} was not written, because there is nothing to suggest.")
        else:
            said.append(f"Written: {output} ({write_configurations(output, mined)})")
    if report is not None:
        from phaseseg.families.environments.report_mine import write_report

        bar(0.94, "drawing the report")
        said.append(f"Written: {write_report(report, mined, name)}")
    if map is not None:
        from phaseseg.families.environments.map import write_map

        bar(0.97, "writing the map")
        n = write_map(map, mined)
        said.append(f"Written: {map} ({plural(n, 'configuration')}; open it at chemiscope.org)")
    return said


def _check_model(path: Path | None, cluster: str) -> None:
    from phaseseg.checkpoint import SUFFIX

    if path is None:
        return
    if path.suffix != SUFFIX:
        raise ValueError(f"{path.name}: the name of a checkpoint file must end in {SUFFIX}.")
    if cluster == "none":
        raise ValueError("--model writes clusters, which --cluster none does not find.")
    check_place(path)


def _write_model(path: Path, mined: Mined, descriptor: Any, chosen: dict[str, Any], seed: int) -> str:
    """Write the clusters as a checkpoint; return a sentence about it."""
    from phaseseg.checkpoint import save_checkpoint
    from phaseseg.families.environments.learn import packed

    assert mined.clusters is not None
    data = mined.data
    found = packed(
        mined.clusters, descriptor, mined.rows, data.configurations, list(data.frames),
        options={**{k: v for k, v in chosen.items() if k != "network"}, "seed": seed},
        name=f"environments/{checkpoint_name(path)}", seed=seed,
    )  # fmt: skip
    save_checkpoint(found, path)
    return f"Written: {path} ({plural(mined.clusters.n_clusters, 'cluster')}; use it with -m {path.name})"


def checkpoint_name(path: Path) -> str:
    """The name of a checkpoint in a file, with dashes for what cannot be in a name.

    >>> checkpoint_name(Path("my fit.safetensors"))
    'my-fit'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._") or "mine"


def write_configurations(path: Path, mined: Mined) -> str:
    """Write the subset, the suggestions or the whole set, whichever was asked for; say what was written."""
    from phaseseg.families.environments.dataset import write_data_set

    data, pruned = mined.data, mined.pruned
    if pruned is not None and pruned.ranking.by == "atoms":
        columns = {"selected": pruned.mask, "weight": pruned.weights}
        n = write_data_set(path, data, pruned.configurations, columns=columns)
        return f"{plural(n, 'configuration')} with columns for selected atoms and their weights"
    if pruned is not None:
        n = write_data_set(
            path, data, pruned.configurations, entries={"weight": pruned.weights[data.starts[:-1]]}
        )
        return f"the subset: {plural(n, 'configuration')} with {'their weights' if n > 1 else 'its weight'}"
    if mined.suggestion is not None and mined.other is not None:
        n = write_data_set(path, mined.other, mined.suggestion.configurations)
        return f"the suggestions: {plural(n, 'configuration')}"
    columns = {}
    if mined.labels is not None and mined.clusters is not None:
        distances = mined.clusters.distances(mined.rows, mined.labels)
        columns = {"environment": mined.labels, "environment_distance": distances}
    if mined.scores is not None:
        columns["outlier_score"] = mined.scores
    n = write_data_set(path, data, columns=columns)
    return f"{plural(n, 'configuration')} with columns {', '.join(columns)}"


def _print(
    mined: Mined,
    name: str,
    seconds: float,
    written: list[str],
    output: Path | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    from phaseseg.families.environments.mining_tables import keys_sentence, mined_sentences, mined_tables
    from phaseseg.report import duration

    tables, found = mined_tables(mined), mined_sentences(mined)
    content = {
        "version": __version__, "inputs": [name], "seconds": seconds, "settings": mined.settings,
        "keys": mined.data.keys, "configurations": len(mined.data), "atoms": mined.data.n_atoms,
        "found": found, "messages": list(mined.messages), "tables": tables,
    }  # fmt: skip
    if output is not None:
        write_results(output, tables, content)
        written = [*written, f"Written: {output}"]
    if as_json:
        show_json(content)
    if not quiet:
        if not as_json:
            show(shown(tables))
        note(keys_sentence(mined.data), *found, *mined.messages)
        note(f"{plural(len(mined.data), 'configuration')} mined in {duration(seconds)}.", *written)


SHOWN = {
    "clusters": ("cluster", "species", "groups", "atoms", "configurations", "RMS force (eV/Å)"),
    "outliers": ("configuration", "group", "species", "atom", "score"),
    "labels": (
        "configuration", "group", "label", "score", "energy off by (eV/atom)", "largest force off by (eV/Å)",
        "times the fit",
    ),
    "new_groups": ("group", "configurations", "atoms", "new environments (%)"),
    "suggestions": ("configuration", "group", "atoms", "closes (% of the gap)", "all so far (% of the gap)"),
}  # fmt: skip
"""Tables and columns that a terminal shows."""
MOST_SHOWN = 20


def shown(tables: dict[str, Any]) -> list[TextTable]:
    """The first rows of the tables that a terminal shows."""
    from phaseseg.fields import Table
    from phaseseg.report import TextTable

    made = []
    for name, columns in SHOWN.items():
        if (table := tables.get(name)) is None or not len(table):
            continue
        headings = {str(name): name for name in table.headings}
        kept = {headings[c]: table.columns[headings[c]][:MOST_SHOWN] for c in columns if c in headings}
        title = table.title
        if len(table) > MOST_SHOWN:
            title += f", the first {MOST_SHOWN} of {len(table)}"
        texts = [k for k, values in enumerate(kept.values()) if values.dtype.kind in "US"]
        text = TextTable.of_table(Table(title, kept), title, ())
        made.append(replace(text, n_labels=max(texts, default=0) + 1))
    return made


def demo(output: Path) -> Demonstration:
    """Curate the bundled set of two metals."""
    from phaseseg.families.environments.mining import mine

    folder, subset = output / "metals", output / "metals_subset.xyz"
    with as_file(files("phaseseg") / "demo" / DEMO) as path, work_bar(False) as bar:
        data = _read([path], {}, {}, bar)
        describe, name = _descriptor(None, 4.0, data, None, None)
        mined = mine(
            data, descriptor=describe, name=name, budget=0.05, outliers=True, audit=True,
            progress=lambda done, line: bar(0.1 + 0.8 * done, line),
        )  # fmt: skip
        _write(mined, subset, folder, None, DEMO, bar)
    assert mined.pruned is not None
    covered, chance = mined.pruned.covered, mined.pruned.covered_random
    meaning = f"of the atoms are like an atom of the chosen 5 %; of a random 5 %, {chance:.0%} are"
    return Demonstration(
        f"Atomic environments: a set of {plural(len(data), 'configuration')} of two metals was curated.",
        ((f"{covered:.0%}", meaning),),
        [folder / "report.html"],
        "phaseseg mine YOUR_SET.xyz --outliers --audit --prune 0.05 -o subset.xyz --report mined",
    )  # fmt: skip
