"""`phaseseg train`: what it writes and says, interruption and resumption, and what it refuses."""

from __future__ import annotations

import sys
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faces import command_line
from faces.command_line import flat, refused
from phaseseg.checkpoint import load_checkpoint
from phaseseg.families.segmentation.fit import fit_segmentation
from phaseseg.families.segmentation.settings import RECIPE, RECIPE_RULE, TRAINING
from phaseseg.frame import Frame
from phaseseg.io import write_frames
from phaseseg.terminal.errors import FAILURE, INPUT, INTERRUPTED, USAGE
from phaseseg.training.state import TrainingState

run = partial(command_line.run, "train", "segmentation")
SMALL = ("--hidden", 4, "--heads", 2, "--layers", 1, "--readout", 8, "--learning-rate", 0.02)
QUICK = (*SMALL, "--epochs", 3, "--members", 1, "--batch-atoms", 1500)


@pytest.fixture(scope="module")
def files(small: dict[int, list[Frame]], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three trajectories of three frames of 520 atoms."""
    folder = tmp_path_factory.mktemp("melts")
    parts = [small[3000][:9:3], small[3000][15:24:3], small[4000][:9:3]]
    paths = [folder / f"melt{k}.dump.gz" for k in range(3)]
    for path, frames in zip(paths, parts, strict=True):
        write_frames(path, [(frame, {}) for frame in frames])
    return paths


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.slow
def test_trains_and_says_how_well(files: list[Path], cache: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.safetensors"
    result = run(*files, "-o", output, "--cache", cache, *QUICK)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    said = flat(result.stderr)
    assert (
        "6 frames with 3,120 atoms in total; split by run: 1 of 3 files for validation (melt2.dump.gz)."
        in said
    )
    assert "Validation, 1,560 atoms:" in said and "% on the wrong side" in said
    assert "Written: " in said and "mine.curves.png" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine.curves.csv", "mine.curves.png", "mine.safetensors",
    ]  # fmt: skip
    # As the library does it.
    checkpoint = load_checkpoint(output)
    network = {"hidden": 4, "heads": 2, "layers": 1, "readout": 8}
    same = fit_segmentation(
        files, network=network, epochs=3, seeds=(0,), learning_rate=0.02, batch_atoms=1500, cache=cache
    )
    assert checkpoint.config == same.config
    assert all(np.array_equal(checkpoint.weights[name], same.weights[name]) for name in same.weights)


def test_the_defaults_are_the_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from phaseseg import api

    given: dict[str, object] = {}

    def instead(data: object, family: str, **options: object) -> None:
        given.update(options, data=data, family=family)
        raise ValueError("enough")

    monkeypatch.setattr(api, "fit", instead)
    assert run("a.dump", "b.dump", "-o", tmp_path / "x.safetensors").exit_code == INPUT
    assert given["family"] == "segmentation" and given["rule"] == RECIPE_RULE
    network = given["network"]
    assert isinstance(network, dict) and network | dict(RECIPE) == network
    assert network["outputs"] == 2 and network["counter"] == () and network["cutoff"] == 6.0
    assert {name: given[name] for name in TRAINING} == TRAINING
    # Everything else as the library does it; `rule` and `network` are looked at above.
    library = signature(fit_segmentation).parameters
    for name in set(given) & set(library) - {"data", "output", "rule", "network", "progress"}:
        assert given[name] == library[name].default, name


def test_the_cell_and_the_format_go_to_all_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from phaseseg import api
    from phaseseg.training.runs import RunFile

    given: dict[str, object] = {}

    def instead(data: object, family: str, **options: object) -> None:
        given.update(options, data=data)
        raise ValueError("enough")

    monkeypatch.setattr(api, "fit", instead)
    flags = (
        "--cell",
        "9,9,9",
        "--format",
        "extxyz",
        "--validation",
        "b.txt",
        "-o",
        tmp_path / "x.safetensors",
    )
    assert run("a.txt", *flags).exit_code == INPUT
    assert given["data"] == [RunFile(Path("a.txt"), "9,9,9", "extxyz")]
    assert given["validation"] == [RunFile(Path("b.txt"), "9,9,9", "extxyz")]


def test_all_options_arrive(files: list[Path], cache: Path, tmp_path: Path) -> None:
    output = tmp_path / "paper.safetensors"
    result = run(
        files[0], "-o", output, "--cache", cache, "--validation", files[1], "--validation", files[2],
        "--species", "Fe", "--counter", "Mg", "--architecture", "graphconv", "--features", "counts",
        "--hidden", 6, "--layers", 2, "--readout", 0, "--boundary-head", "--boundary-width", 2.7, "--loss",
        "class", "--sigma", 1.8, "--cutoff", 5, "--label-threshold", 0.04, "--min-volume", 100, "--epochs", 2,
        "--members", 2, "--seed", 7, "--batch-atoms", 600, "--learning-rate", 0.02, "--every", 2,
        "--patience", 9, "--summary", "Iron in rock.", "--quiet",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stderr == result.stdout == ""
    checkpoint = load_checkpoint(output)
    network, rule = checkpoint.config["network"], checkpoint.config["label_rule"]
    assert network["architecture"] == "graphconv" and network["counter"] == ["Mg"]
    assert (network["features"], network["hidden"], network["layers"]) == ("counts", 6, 2)
    assert (network["readout"], network["outputs"], network["cutoff"]) == (0, 3, 5.0)
    assert (rule["sigma"], rule["threshold"]) == (1.8, 0.04)
    assert (rule["boundary_width"], rule["min_volume"]) == (2.7, 100)
    training = checkpoint.card["training"]
    assert [row[0] for row in training["members"]["rows"]] == [7, 8]
    assert (training["loss"], training["epochs"], training["batch_atoms"]) == ("class", 2, 600)
    assert checkpoint.card["data"]["frames"] == 2 and checkpoint.card["summary"] == "Iron in rock."
    assert checkpoint.card["split"].startswith("2 files given for validation")


@pytest.mark.slow
def test_interrupt_and_resume(
    files: list[Path], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = tmp_path / "whole.safetensors", tmp_path / "part.safetensors"
    assert run(*files, "-o", whole, "--cache", cache, *QUICK).exit_code == 0
    save = TrainingState.save

    def interrupted(self: TrainingState, content: dict[str, Any], *rest: Any) -> None:
        save(self, content, *rest)
        if len(content["members"][0]["epochs"]) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingState, "save", interrupted)
    result = run(*files, "-o", part, "--cache", cache, *QUICK)
    monkeypatch.undo()
    assert result.exit_code == INTERRUPTED
    assert "interrupted. The state after epoch 2 lies in" in flat(result.stderr)
    assert "part.state.safetensors; continue with --resume." in flat(result.stderr)
    again = run(*files, "-o", part, "--cache", cache, *QUICK)
    assert again.exit_code == INPUT and "in the way" in again.stderr and "--resume" in again.stderr
    assert run(*files, "-o", part, "--cache", cache, *QUICK, "--resume").exit_code == 0
    one, other = load_checkpoint(whole), load_checkpoint(part)
    assert all(np.array_equal(one.weights[name], other.weights[name]) for name in one.weights)
    assert not (tmp_path / "part.state.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--architecture", "mlp"), USAGE, "architecture must be gat, gcn or graphconv, found 'mlp'."),
        (("--features", "raw"), USAGE, "features must be counts or densities"),
        (("--widths", "1,x"), USAGE, "--widths must be comma-separated numbers"),
        (("--widths", "1,-2"), USAGE, "widths must be positive lengths"),
        (("--loss", "mse"), USAGE, "loss must be distance or class"),
        (("--members", 0), USAGE, "members must be at least 1"),
        (("--epochs", 0), USAGE, "epochs must be at least 1"),
        (("--every", 0), USAGE, "every must be at least 1"),
        (("--sigma", -1), USAGE, "sigma must be a positive length"),
        (("--species", "Au"), INPUT, "melt0.dump.gz: there is no Au"),
        (("--counter", "Au"), INPUT, "'Au' is not among the species"),
    ],
)
def test_one_sentence_for_what_cannot_be_meant(
    files: list[Path], cache: Path, tmp_path: Path, options: tuple[object, ...], code: int, sentence: str
) -> None:
    arguments = ("-o", tmp_path / "x.safetensors", "--cache", cache, *options)
    refused(code, sentence, "train", "segmentation", *files, *arguments)
    assert not list(tmp_path.iterdir())


def test_one_sentence_for_files(files: list[Path], cache: Path, tmp_path: Path) -> None:
    for data, output, sentence in [
        (["missing.dump"], "x.safetensors", "missing.dump"),
        (files, "x.pt", "the name of a checkpoint file must end in .safetensors"),
        (files, "nowhere/x.safetensors", "there is no folder"),
    ]:
        arguments = (*data, "-o", tmp_path / output, "--cache", cache)
        refused(INPUT, sentence, "train", "segmentation", *arguments)


def test_without_torch(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    words = 'install it with: pip install "ovito-phaseseg[train]"'
    refused(FAILURE, words, "train", "segmentation", *files, "-o", tmp_path / "x.safetensors")
