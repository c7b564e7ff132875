"""`phaseseg train`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from phaseseg.cli.console import (
    Quiet,
    Species,
    Trajectories,
    Types,
    exit_codes,
    note,
    number_or_name,
    split_names,
    usage_errors,
)
from phaseseg.families.liquid_glass import settings as glass
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.families.segmentation.settings import RECIPE, RECIPE_RULE, TRAINING

SPECIES = ",".join(RECIPE_RULE.species)


def _default(name: str, recipe: Mapping[str, Any] = glass.RECIPE) -> str:
    """For the help of an option that is left out where nothing is asked for, so that it may be searched."""
    return f"{recipe[name]:g} if left out"


train_app = typer.Typer(
    no_args_is_help=True, help="Train a network for your own pair of liquids, or your own liquid and glass."
)


@train_app.callback()
def _root() -> None:
    pass


@train_app.command("segmentation")
def segmentation_command(
    data: Trajectories,
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint to write: NAME.safetensors.")],
    validation: Annotated[
        list[Path] | None,
        typer.Option(help="A trajectory to validate with; may be repeated. Else a part of DATA does."),
    ] = None,
    species: Species = SPECIES,
    counter: Annotated[
        str, typer.Option(help="Species counted by the last of the counts features, as Mg.")
    ] = "",
    types: Types = None,
    architecture: Annotated[str, typer.Option(help="gat | gcn | graphconv")] = RECIPE["architecture"],
    features: Annotated[str, typer.Option(help="densities | counts (the paper's ten)")] = RECIPE["features"],
    widths: Annotated[str, typer.Option(help="Widths of the densities, Å, with commas.")] = ",".join(
        f"{width:.17g}" for width in RECIPE["widths"]
    ),
    hidden: Annotated[int, typer.Option(help="Channels of a layer, per head.")] = RECIPE["hidden"],
    heads: Annotated[int, typer.Option(help="Heads of attention.")] = RECIPE["heads"],
    layers: Annotated[int, typer.Option(help="Message-passing layers.")] = RECIPE["layers"],
    readout: Annotated[
        int, typer.Option(help="Hidden units on all layers; 0: the last layer gives the outputs.")
    ] = RECIPE["readout"],
    boundary_head: Annotated[
        bool, typer.Option("--boundary-head", help="Learn the boundary as a third class.")
    ] = False,
    boundary_width: Annotated[
        float, typer.Option(help="Thickness of the boundary, Å.")
    ] = RECIPE_RULE.boundary_width,
    loss: Annotated[str, typer.Option(help="distance | class")] = "distance",
    sigma: Annotated[float, typer.Option(help="Width of the Gaussian of the labels, Å.")] = RECIPE_RULE.sigma,
    cutoff: Annotated[float, typer.Option(help="Radius of the neighborhood, Å.")] = RECIPE["cutoff"],
    label_threshold: Annotated[
        str, typer.Option(help="steepest | two-means | midpoint (one cut for all frames) | a number")
    ] = str(RECIPE_RULE.threshold),
    min_volume: Annotated[
        float, typer.Option(help="Smallest rich domain of the labels, Å^3.")
    ] = RECIPE_RULE.min_volume,
    epochs: Annotated[int, typer.Option(help="Passes over the data, at most.")] = TRAINING["epochs"],
    members: Annotated[int, typer.Option(help="Networks in the checkpoint, one seed each.")] = len(
        TRAINING["seeds"]
    ),
    seed: Annotated[int, typer.Option(help="Seed of the first member; the next follow.")] = TRAINING["seeds"][
        0
    ],
    batch_atoms: Annotated[int, typer.Option(help="Atoms of a batch.")] = TRAINING["batch_atoms"],
    learning_rate: Annotated[float, typer.Option(help="Of Adam, at the start.")] = TRAINING["learning_rate"],
    patience: Annotated[
        int, typer.Option(help="Epochs without a better validation loss before a member is finished.")
    ] = TRAINING["patience"],
    every: Annotated[int, typer.Option(help="Take every n-th frame.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted training.")] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps labels; your cache folder if left out.")
    ] = None,
    summary: Annotated[str | None, typer.Option(help="One line for the card.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train on trajectories of two liquids: labels are made on the way.

    Beside the checkpoint: learning curves as .curves.csv and .curves.png.
    """
    with exit_codes(f"{output} was not written."):
        from phaseseg.api import fit
        from phaseseg.training import Settings

        with usage_errors():
            rule = LabelRule(
                species=split_names(species), sigma=sigma, threshold=number_or_name(label_threshold),
                boundary_width=boundary_width, min_volume=min_volume,
            )  # fmt: skip
            if members < 1:
                raise ValueError(f"--members must be at least 1, found {members}.")
            options = _network(
                architecture=architecture, features=features, widths=_numbers(widths, "--widths", "1,1.4,2"),
                hidden=hidden, heads=heads, layers=layers, readout=readout, cutoff=cutoff,
                outputs=3 if boundary_head else 2, counter=split_names(counter) if counter else (),
            )  # fmt: skip
            Settings(epochs, batch_atoms, learning_rate, tuple(range(seed, seed + members)), patience)
            if loss not in ("distance", "class"):
                raise ValueError(f"--loss must be distance or class, found {loss!r}.")
            if every < 1:
                raise ValueError(f"--every must be at least 1, found {every}.")
        with _bar(quiet) as progress:
            checkpoint = fit(
                data, "segmentation", output=output, rule=rule, network=options, loss=loss,
                validation=validation or None, types=None if types is None else split_names(types),
                every=every, epochs=epochs, batch_atoms=batch_atoms, learning_rate=learning_rate,
                patience=patience, seeds=tuple(range(seed, seed + members)), summary=summary, resume=resume,
                cache=cache, progress=progress,
            )  # fmt: skip
        if not quiet:
            for sentence in _report(checkpoint.card):
                note(sentence)
            stem = output.name.removesuffix(".safetensors")
            note(f"Written: {output}, {stem}.curves.csv, {stem}.curves.png")


@train_app.command("liquid_glass")
def glass_command(
    data: Annotated[
        list[Path], typer.Argument(help="Runs, one file each, in reduced units: extended XYZ, dumps; gz too.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint to write: NAME.safetensors.")],
    glass_below: Annotated[float, typer.Option(help="Temperature up to which it is glass.")],
    liquid_above: Annotated[float, typer.Option(help="Temperature from which on it is liquid.")],
    temperature: Annotated[
        str, typer.Option(help="Key of the temperature in the comment line of a frame.")
    ] = "temperature",
    species: Annotated[str, typer.Option(help="Names of A and of B, with a comma.")] = "A,B",
    types: Annotated[str | None, typer.Option(help="Species of the types 1, 2, ... of a dump: A,B.")] = None,
    units: Annotated[
        str | None, typer.Option(help="lj where the files are in reduced units but do not say so.")
    ] = None,
    validation: Annotated[
        list[Path] | None,
        typer.Option(help="A run to validate with; may be repeated. Else folds of the runs do."),
    ] = None,
    folds: Annotated[
        int, typer.Option(help="Parts of the runs; each validates one member, which learns from the others.")
    ] = glass.FOLDS,
    architecture: Annotated[
        str, typer.Option(help="dmpnn (messages on graphs) | cnn (images, in two dimensions)")
    ] = glass.RECIPE["architecture"],
    attention: Annotated[bool, typer.Option("--attention", help="Weigh edges by attention (dmpnn).")] = False,
    features: Annotated[
        str | None,
        typer.Option(
            help="distances | types | coordinates (the paper's); "
            f"{glass.RECIPE['features']} if left out (dmpnn)."
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            help="Edges of the windows, sigma, from LOW to HIGH: LOW,HIGH; "
            f"{','.join(map(str, glass.RECIPE['window']))} if left out (dmpnn)."
        ),
    ] = None,
    k: Annotated[int | None, typer.Option("-k", help=f"Nearest neighbors, {_default('k')} (dmpnn).")] = None,
    hidden: Annotated[
        int | None, typer.Option(help=f"Numbers on an edge, {_default('hidden')} (dmpnn).")
    ] = None,
    steps: Annotated[int | None, typer.Option(help=f"Steps T, {_default('steps')} (dmpnn).")] = None,
    ffn_layers: Annotated[
        int | None, typer.Option(help=f"Layers of the head, {_default('ffn_layers')} (dmpnn).")
    ] = None,
    pool: Annotated[
        int | None, typer.Option(help=f"Pooling, pixels, {_default('pool', glass.IMAGE_RECIPE)} (cnn).")
    ] = None,
    dense: Annotated[
        int | None,
        typer.Option(help=f"Units before the output, {_default('dense', glass.IMAGE_RECIPE)} (cnn)."),
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help=f"Share of units left out in training, {_default('dropout')}.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help=f"Of Adam, at the start, {_default('learning_rate', glass.TRAINING)}."),
    ] = None,
    search: Annotated[
        int,
        typer.Option(
            help="Trials for each fold of a search for the settings that are left out, by nested "
            "cross-validation (TPE); 0: none."
        ),
    ] = 0,
    search_epochs: Annotated[
        int, typer.Option(help="Epochs of a network of the search.")
    ] = glass.SEARCH_EPOCHS,
    windows: Annotated[int, typer.Option(help="Windows of an epoch, half of them of glass.")] = glass.WINDOWS,
    held_windows: Annotated[
        int, typer.Option(help="Windows that a member is validated on.")
    ] = glass.HELD_WINDOWS,
    epochs: Annotated[int, typer.Option(help="Epochs, at most.")] = glass.TRAINING["epochs"],
    batch_atoms: Annotated[int, typer.Option(help="Particles of a batch.")] = glass.TRAINING["batch_atoms"],
    patience: Annotated[
        int, typer.Option(help="Epochs without a better validation loss before a member is finished.")
    ] = glass.TRAINING["patience"],
    seed: Annotated[int, typer.Option(help="Seed of the first member; the next follow.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted training or search.")
    ] = False,
    summary: Annotated[str | None, typer.Option(help="One line for the card.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train on runs of a mixture of two kinds of particles that was cooled from liquid to glass.

    Beside the checkpoint: learning curves as .curves.csv and .curves.png, trials of a search as .search.csv.
    """
    with exit_codes(f"{output} was not written."):
        from phaseseg.api import fit
        from phaseseg.training import Settings, require_torch

        with usage_errors():
            given = {
                "architecture": architecture, "attention": attention or None, "features": features,
                "window": None if window is None else _numbers(window, "--window", "6,18"), "k": k,
                "hidden": hidden, "steps": steps, "ffn_layers": ffn_layers, "pool": pool, "dense": dense,
                "dropout": dropout,
            }  # fmt: skip
            network: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
            network["species"] = split_names(species)
            _check_glass(network)
            rate = glass.TRAINING["learning_rate"] if learning_rate is None else learning_rate
            Settings(epochs, batch_atoms, rate, (seed,), patience)
            if units not in (None, "lj"):
                raise ValueError(f"--units must be lj or be left out, found {units!r}.")
            if search < 0:
                raise ValueError(f"--search must be a number of trials, found {search}.")
            if search and validation:
                raise ValueError("a search validates on folds of the runs; leave --validation out.")
        require_torch()
        options: dict[str, Any] = {
            "output": output, "glass_below": glass_below, "liquid_above": liquid_above,
            "temperature": temperature, "types": None if types is None else split_names(types),
            "units": units or "metal", "folds": folds, "windows": windows, "held_windows": held_windows,
            "epochs": epochs, "batch_atoms": batch_atoms, "patience": patience, "seed": seed,
            "resume": resume, "summary": summary,
        }  # fmt: skip
        with _bar(quiet) as progress:
            if search:
                from phaseseg.families.liquid_glass.search import fit_with_search

                checkpoint = fit_with_search(
                    data, search, network=network, learning_rate=learning_rate, search_epochs=search_epochs,
                    progress=progress, **options,
                )  # fmt: skip
            else:
                checkpoint = fit(
                    data, "liquid_glass", network=network, learning_rate=rate, validation=validation or None,
                    progress=progress, **options,
                )  # fmt: skip
        if not quiet:
            for sentence in _glass_report(checkpoint.card):
                note(sentence)
            stem = output.name.removesuffix(".safetensors")
            trials = f", {stem}.search.csv" * bool(search)
            note(f"Written: {output}, {stem}.curves.csv, {stem}.curves.png{trials}")


@contextmanager
def _bar(quiet: bool) -> Iterator[Callable[[float, str], None]]:
    """A bar on a terminal, and what moves it."""
    console = Console(stderr=True)
    bar = Progress(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), _Left(compact=True),
        console=console, transient=True, disable=quiet or not console.is_terminal,
    )  # fmt: skip
    with bar:
        job = bar.add_task("starting; the first use on a machine compiles for some 30 s", total=1.0)
        yield lambda done, line: bar.update(job, completed=done, description=line)


class _Left(TimeRemainingColumn):
    """The time that is left, once it can be told."""

    def render(self, task: Task) -> Text:
        left = super().render(task)
        return Text() if "-" in left.plain else left.append(" left")


def _numbers(text: str, option: str, example: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} must be numbers with commas, as {example}, found {text!r}.") from None


def _network(**options: Any) -> dict[str, Any]:
    """The options, checked as far as they can be without the species of the data."""
    from phaseseg.families.segmentation.settings import NetworkConfig

    counter = options["counter"]
    NetworkConfig(**{**options, "species": ("X", *counter), "target": ("X",)})
    return options


def _check_glass(network: dict[str, Any]) -> None:
    """Refuse settings out of range, and those of the other architecture, before any file is read."""
    from phaseseg.families.liquid_glass.settings import GlassConfig

    images = network["architecture"] == "cnn"
    of_other = ("attention", "features", "window", "k", "hidden", "steps", "ffn_layers")
    for name in of_other if images else ("pool", "dense"):
        if name in network:
            option = "-k" if name == "k" else f"--{name.replace('_', '-')}"
            raise ValueError(
                f"{option} is a setting of the architecture {'dmpnn' if images else 'cnn'}; leave it out."
            )
    GlassConfig(**{**(glass.IMAGE_RECIPE if images else glass.RECIPE), **network})


def _glass_report(card: dict[str, Any]) -> list[str]:
    """Sentences on what was trained, and how well."""
    data, training = card["data"], card["training"]
    scores = training["validation"]
    rows = training["members"]["rows"]
    plural = "s" * (len(rows) > 1)
    kept = ", ".join(str(row[2]) for row in rows)
    found = (
        f"Validation, {scores['windows']:,} windows: AUC {scores['auc']:.4f} ± {scores['auc_spread']:.4f}, "
        f"{scores['accuracy']:.2%} right"
    )
    if "whole_cell_accuracy" in scores:
        found += f"; of whole cells {scores['whole_cell_accuracy']:.2%}"
    learned = (
        f"{data['configurations']:,} configurations of {data['runs']:,} runs, {data['glass']:,} glass and "
        f"{data['liquid']:,} liquid; split {card['split']}."
    )
    sentences = [
        learned,
        f"{len(rows)} member{plural} in {training['seconds']:,.0f} s; kept epoch{plural} {kept}.",
        f"{found}.",
    ]
    if "search" in card:
        search = card["search"]
        auc, spread = search["test_auc"]
        searched = search["folds"]["rows"][0][1]
        chosen = ", ".join(f"{name} {search['chosen'][name]}" for name in searched)
        sentences.append(
            f"Search: test AUC {auc:.4f} ± {spread:.4f} on folds without a say in their settings; chosen: "
            f"{chosen}."
        )
    return sentences


def _report(card: dict[str, Any]) -> list[str]:
    """Sentences on what was trained, and how well."""
    data, training = card["data"], card["training"]
    scores = training["validation"]
    rows = training["members"]["rows"]
    plural = "s" * (len(rows) > 1)
    kept = ", ".join(str(row[2]) for row in rows)
    near = (
        f"distances near the interface off by {scores['distance_bias_near_interface']:+.2f} ± "
        f"{scores['distance_rms_near_interface']:.2f} Å; expected calibration error "
        f"{scores['expected_calibration_error']:.3f}"
    )
    return [
        f"{data['frames']:,} frames of {data['atoms']:,} atoms in all; split {card['split']}.",
        f"{len(rows)} member{plural} in {training['seconds']:,.0f} s; kept epoch{plural} {kept}.",
        f"Validation, {scores['atoms']:,} atoms: {scores['error']:.2%} on the wrong side; {near}.",
    ]
