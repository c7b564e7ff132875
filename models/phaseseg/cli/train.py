"""`phaseseg train`."""

from __future__ import annotations

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
from phaseseg.families.segmentation.config import LabelRule
from phaseseg.families.segmentation.recipe import RECIPE, RECIPE_RULE, TRAINING

SPECIES = ",".join(RECIPE_RULE.species)

train_app = typer.Typer(no_args_is_help=True, help="Train a network for your own pair of liquids.")


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
        from phaseseg.training import Settings, fit

        with usage_errors():
            rule = LabelRule(
                species=split_names(species), sigma=sigma, threshold=number_or_name(label_threshold),
                boundary_width=boundary_width, min_volume=min_volume,
            )  # fmt: skip
            if members < 1:
                raise ValueError(f"--members must be at least 1, found {members}.")
            options = _network(
                architecture=architecture, features=features, widths=_lengths(widths), hidden=hidden,
                heads=heads, layers=layers, readout=readout, cutoff=cutoff, outputs=3 if boundary_head else 2,
                counter=split_names(counter) if counter else (),
            )  # fmt: skip
            Settings(epochs, batch_atoms, learning_rate, tuple(range(seed, seed + members)), patience)
            if loss not in ("distance", "class"):
                raise ValueError(f"--loss must be distance or class, found {loss!r}.")
            if every < 1:
                raise ValueError(f"--every must be at least 1, found {every}.")
        console = Console(stderr=True)
        bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), _Left(compact=True),
            console=console, transient=True, disable=quiet or not console.is_terminal,
        )  # fmt: skip
        with bar:
            job = bar.add_task("starting; the first use on a machine compiles for some 30 s", total=1.0)
            checkpoint = fit(
                data, "segmentation", output=output, rule=rule, network=options, loss=loss,
                validation=validation or None, types=None if types is None else split_names(types),
                every=every, epochs=epochs, batch_atoms=batch_atoms, learning_rate=learning_rate,
                patience=patience, seeds=tuple(range(seed, seed + members)), summary=summary, resume=resume,
                cache=cache,
                progress=lambda done, line: bar.update(job, completed=done, description=line),
            )  # fmt: skip
        if not quiet:
            for sentence in _report(checkpoint.card):
                note(sentence)
            stem = output.name.removesuffix(".safetensors")
            note(f"Written: {output}, {stem}.curves.csv, {stem}.curves.png")


class _Left(TimeRemainingColumn):
    """The time that is left, once it can be told."""

    def render(self, task: Task) -> Text:
        left = super().render(task)
        return Text() if "-" in left.plain else left.append(" left")


def _lengths(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--widths must be numbers with commas, as 1,1.4,2, found {text!r}.") from None


def _network(**options: Any) -> dict[str, Any]:
    """The options, checked as far as they can be without the species of the data."""
    from phaseseg.families.segmentation.network import NetworkConfig

    counter = options["counter"]
    NetworkConfig(**{**options, "species": ("X", *counter), "target": ("X",)})
    return options


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
