"""`phaseseg train liquid_glass`: what it writes and says, and what it refuses."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faces import command_line
from faces.command_line import done, flat, refused
from phaseseg.checkpoint import load_checkpoint
from phaseseg.families.liquid_glass import fit as fitting
from phaseseg.families.liquid_glass.fit import fit_liquid_glass
from phaseseg.families.liquid_glass.settings import FOLDS, HELD_WINDOWS, TRAINING, WINDOWS
from phaseseg.io import write_frames
from phaseseg.terminal.errors import INPUT, INTERRUPTED, USAGE
from samples import cooled

run = partial(command_line.run, "train", "liquid_glass")
BETWEEN = ("--glass-below", 0.1, "--liquid-above", 1.0)
SMALL = ("--hidden", 8, "--steps", 2, "--window", "7.5,12")
QUICK = (*SMALL, "--epochs", 2, "--windows", 60, "--held-windows", 20, "--batch-atoms", 500)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    paths = [folder / f"run{k}.xyz.gz" for k in range(3)]
    for k, path in enumerate(paths):
        write_frames(path, [(frame, {}) for frame in cooled(k)])
    return paths


@pytest.mark.slow
def test_trains_and_says_how_well(runs: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "mine.safetensors"
    result = run(*runs, "-o", output, *BETWEEN, *QUICK, "--attention", "-k", 3, "--learning-rate", 0.02)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    said = flat(result.stderr)
    assert "6 configurations of 3 runs, 3 glass and 3 liquid; split by run, 3 folds;" in said
    assert "Validation, 60 windows: AUC 0." in said or "Validation, 60 windows: AUC 1." in said
    assert "% correct; whole cells" in said and "mine.curves.png" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine.curves.csv", "mine.curves.png", "mine.safetensors",
    ]  # fmt: skip
    # As the library does it.
    checkpoint = load_checkpoint(output)
    network = {"hidden": 8, "steps": 2, "window": (7.5, 12.0), "attention": True, "k": 3}
    same = fit_liquid_glass(
        runs, glass_below=0.1, liquid_above=1.0, network=network, epochs=2, windows=60, held_windows=20,
        batch_atoms=500, learning_rate=0.02,
    )  # fmt: skip
    assert checkpoint.config == same.config
    assert all(np.array_equal(checkpoint.weights[name], same.weights[name]) for name in same.weights)


def test_the_defaults_are_the_recipe(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from phaseseg import api

    given: dict[str, Any] = {}

    def instead(data: object, family: str, **options: object) -> None:
        given.update(options, family=family)
        raise ValueError("enough")

    monkeypatch.setattr(api, "fit", instead)
    assert "enough" in run(*runs, "-o", tmp_path / "a.safetensors", *BETWEEN).stderr
    assert given["network"] == {"architecture": "dmpnn", "species": ("A", "B")}
    assert given["family"] == "liquid_glass" and given["validation"] is None
    assert (given["glass_below"], given["liquid_above"], given["units"]) == (0.1, 1.0, "metal")
    assert (given["folds"], given["windows"], given["held_windows"]) == (FOLDS, WINDOWS, HELD_WINDOWS)
    assert {name: given[name] for name in TRAINING} == {**TRAINING, "learning_rate": None}  # may be searched


def test_a_search_chooses_what_is_left_out(runs: list[Path], tmp_path: Path) -> None:
    result = run(
        *runs, "-o", tmp_path / "found.safetensors", *BETWEEN, *SMALL, "--features", "types", "--epochs", 1,
        "--windows", 10, "--held-windows", 6, "--search", 1, "--search-epochs", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    said = flat(result.stderr)
    assert "Search: test AUC" in said and "chosen: k " in said and "found.search.csv" in said
    made = load_checkpoint(tmp_path / "found.safetensors")
    network, chosen = made.config["network"], made.card["search"]["chosen"]
    assert network["hidden"] == 8 and network["k"] == chosen["k"] and network["dropout"] == chosen["dropout"]
    assert len((tmp_path / "found.search.csv").read_text("utf-8").splitlines()) == 1 + 3


@pytest.mark.slow
def test_interruption_and_resumption(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (*runs, "-o", tmp_path / "part.safetensors", *BETWEEN, *QUICK, "--folds", 3)
    calls = []
    real = fitting.validate

    def stop(*arguments: Any) -> tuple[float, float]:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "validate", stop)
        result = run(*arguments)
    assert result.exit_code == INTERRUPTED
    assert "after epoch 1 of member 2 lies in" in flat(result.stderr) and "--resume" in result.stderr
    assert run(*arguments).exit_code == INPUT
    assert run(*arguments, "--resume", "-q").exit_code == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--window", "0.5"), "window must be two lengths in σ"),
        (("--window", "a,b"), "--window must be comma-separated numbers, as in 6,18, found 'a,b'"),
        (("--architecture", "gat"), "architecture must be dmpnn or cnn"),
        (("--architecture", "cnn", "-k", 3), "k is a setting of the architecture dmpnn; leave it out"),
        (("--architecture", "cnn", "--attention"), "attention is a setting of the architecture dmpnn"),
        (("--dense", 20), "dense is a setting of the architecture cnn; leave it out"),
        (("--species", "A"), "species must be two names, of A and of B"),
        (("--hidden", 0), "hidden must be at least 1, found 0"),
        (("--dropout", 1), "dropout must be at least 0 and below 1"),
        (("--epochs", 0), "epochs must be at least 1"),
        (("--units", "metal"), "units must be lj"),
        (("--search", -1), "search must be a number of trials"),
        (("--search", 2, "--validation", "x.xyz"), "leave validation out"),
    ],
)
def test_arguments_that_cannot_be_meant(
    runs: list[Path], tmp_path: Path, options: tuple[object, ...], sentence: str
) -> None:
    arguments = (*runs, "-o", tmp_path / "a.safetensors", *BETWEEN, *options)
    refused(USAGE, sentence, "train", "liquid_glass", *arguments)


@pytest.mark.slow
def test_input_that_cannot_be_learned_from(runs: list[Path], tmp_path: Path) -> None:
    def refuse(sentence: str, *arguments: object, files: list[Path] = runs) -> None:
        output = ("-o", tmp_path / "a.safetensors")
        refused(INPUT, sentence, "train", "liquid_glass", *files, *output, *arguments, *QUICK)

    refuse("0 configurations are glass and 3 are liquid", "--glass-below", 0.01, "--liquid-above", 1)
    refuse("the glass must be colder than the liquid", "--glass-below", 2, "--liquid-above", 1)
    refuse("there is no 'T' among the keys", *BETWEEN, "--temperature", "T")
    refuse("the network does not know B, A, only Ni and P", *BETWEEN, "--species", "Ni,P")
    refuse("3 independent runs hold glass, and 4 folds need one each", *BETWEEN, "--folds", 4)
    refuse("too few to find 60 neighbors", *BETWEEN, "-k", 60)
    refuse("there is no such file", *BETWEEN, files=[tmp_path / "none.xyz"])
    stripped = []
    for path in runs:
        plain = tmp_path / f"plain_{path.name.removesuffix('.gz')}"
        write_frames(plain, [(frame.replace(units="metal"), {}) for frame in cooled(len(stripped))])
        stripped.append(plain)
    refuse("lengths are in Å, but these networks need reduced units", *BETWEEN, files=stripped)
    output = ("-o", tmp_path / "a.safetensors", "--units", "lj", "-q")
    done("train", "liquid_glass", *stripped, *output, *BETWEEN, *QUICK)
