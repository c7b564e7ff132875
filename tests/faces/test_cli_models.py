"""phaseseg models: what is printed, and the exit code."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faces import command_line
from phaseseg import checkpoint as module
from phaseseg.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from phaseseg.terminal.errors import FAILURE, INPUT

run = partial(command_line.run, "models")

CARD: dict[str, Any] = {
    "summary": "Attention network for [bold] melts of Fe.\nSecond line.",
    "data": {"runs": ["a.dump", "b.dump"], "n_frames": 1200, "melt": {"temperatures": [3000, 4000]}},
    "split": {},
    "label_rule": {"sigma": 2.0, "threshold": "steepest", "pooled": False},
    "metrics": {
        "three_classes": {
            "title": "Three classes at 2.7 Å",
            "columns": ["cell", "macro F1"],
            "rows": [["3000 K", 0.97312345], ["4000 K", None]],
            "note": "mean of 3 seeds",
        },
        "confusion": [[90, 2], [3, 40000]],
        "auc": 0.99951,
    },
    "history": [{"epoch": 1, "loss": 0.5}],
    "limits": ["Only melts of iron.", "Not below 2500 K."],
    "license": "MIT",
}


def weights() -> dict[str, np.ndarray]:
    return {"layer1.bias": np.arange(300, dtype=np.float32)}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "families" / "segmentation" / "checkpoints"
    folder.mkdir(parents=True)
    for stem in ("gat-v1", "gcn-v2"):
        name = f"segmentation/{stem}"
        config = {"species": ("Fe", "O"), "cutoff": 6.0}
        save_checkpoint(
            Checkpoint("segmentation", name, config, weights(), CARD), folder / f"{stem}.safetensors"
        )
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    return folder


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "files", lambda package: tmp_path)


def damage(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def test_list(shelf: Path) -> None:
    result = run("list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    (line,) = (line for line in lines if "segmentation/gat-v1" in line)
    size = f"{(shelf / 'gat-v1.safetensors').stat().st_size / 1000:.1f} kB"
    for part in ("(default)", " 1 ", load_checkpoint("gat-v1").hash[:12], size, "network for [bold] melts"):
        assert part in line
    (line,) = (line for line in lines if "segmentation/gcn-v2" in line)
    assert "(default)" not in line and " 2 " in line
    assert "Second line" not in result.stdout


def test_list_as_json(shelf: Path) -> None:
    entries = json.loads(run("list", "--json").stdout)
    assert [entry["name"] for entry in entries] == ["segmentation/gat-v1", "segmentation/gcn-v2"]
    assert entries[0]["path"] == str(shelf / "gat-v1.safetensors")


def test_list_of_none(empty: None) -> None:
    for command in ("list", "verify"):
        result = run(command)
        assert (result.exit_code, result.stdout.strip()) == (0, "No checkpoints found.")
    assert (
        run("list", "--family", "mobility").stdout.strip() == "No checkpoints found for the family mobility."
    )
    assert json.loads(run("list", "--json").stdout) == []


def test_list_shows_the_others_beside_a_damaged_one(shelf: Path) -> None:
    (shelf / "gat-v1.safetensors").write_bytes(b"")
    result = run("list")
    assert result.exit_code == INPUT
    assert "segmentation/gcn-v2" in result.stdout and "truncated" in result.stderr


def test_show(shelf: Path) -> None:
    result = run("show", "gat-v1")
    assert result.exit_code == 0, result.stderr
    text = result.stdout
    for part in (
        "Attention network for [bold] melts of Fe.",
        f"hash: {load_checkpoint('gat-v1').hash}",
        "  runs: a.dump, b.dump",
        "    temperatures: 3000, 4000",
        "  threshold: steepest",
        "  pooled: no",
        "Three classes at 2.7 Å",
        "mean of 3 seeds",
        "0.973123",
        "40000",
        "auc: 0.99951",
        "loss: 0.5",
        "• Not below 2500 K.",
        "license: MIT",
        "cutoff: 6",
    ):
        assert part in text, part
    assert "split" not in text and "None" not in text
    assert not [line for line in text.splitlines() if line.endswith("  ")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        None,
        [[]],
        [[1, "a"]],
        [[1], [1, 2]],
        [None, [1, [2]]],
        list(range(100)),
        "[/red]",
        {"a": {"b": {"c": [{"d": [1]}]}}},
        {"columns": [], "rows": []},
        {"columns": ["a"], "rows": [5]},
        {"columns": ["a"], "rows": [[1, 2], []]},
        {"columns": "ab", "rows": [[1]]},
        {"columns": ["a"], "rows": [[{"b": 1}]]},
        {"title": 5, "columns": [5, None], "rows": [[True, "[x"]], "note": 7},
    ],
)
def test_show_whatever_a_card_holds(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "odd.safetensors"
    for card in ({"odd": value}, {"summary": value, "deep": {"odd": value}}):
        save_checkpoint(Checkpoint("segmentation", "segmentation/odd", {}, weights(), card), path)
        result = run("show", path)
        assert result.exit_code == 0, result.stderr
        assert json.loads(run("show", path, "--json").stdout)["card"] == card


def test_show_as_json(shelf: Path) -> None:
    shown = json.loads(run("show", "segmentation/gat-v1", "--json").stdout)
    assert shown["card"] == CARD and shown["config"] == {"species": ["Fe", "O"], "cutoff": 6.0}
    assert shown["hash"] == load_checkpoint("gat-v1").hash and shown["n_weights"] == 300
    assert (shown["version"], shown["units"], shown["format"]) == (1, "metal", 1)


def test_verify(shelf: Path) -> None:
    result = run("verify")
    assert result.exit_code == 0 and result.stdout.count("ok ") == 2
    damage(shelf / "gcn-v2.safetensors")
    result = run("verify")
    assert result.exit_code == FAILURE
    good, bad = result.stdout.splitlines()
    assert good.split()[:2] == ["ok", "segmentation/gat-v1"]
    assert bad.split()[:2] == ["failed", "segmentation/gcn-v2"] and "has changed" in bad
    assert run("verify", "gat-v1").exit_code == 0
    assert run("verify", "gcn-v2").exit_code == FAILURE
    assert run("verify", shelf / "gcn-v2.safetensors").exit_code == FAILURE


def test_verify_a_file(shelf: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes((shelf / "gat-v1.safetensors").read_bytes())
    result = run("verify", path)
    assert result.exit_code == 0 and str(path) in result.stdout
    damage(path)
    result = run("verify", path)
    assert result.exit_code == FAILURE and result.stdout.count(str(path)) == 1


def test_path(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("path", "gat-v1").stdout == f"{shelf / 'gat-v1.safetensors'}\n"
    monkeypatch.chdir(shelf)
    assert run("path", "gcn-v2.safetensors").stdout == f"{shelf / 'gcn-v2.safetensors'}\n"


@pytest.mark.parametrize("command", ["show", "verify", "path"])
def test_unknown_names_are_one_sentence(shelf: Path, command: str) -> None:
    result = run(command, "gat-v7")
    assert result.exit_code == INPUT and not result.stdout
    assert result.stderr.startswith("phaseseg: 'gat-v7': there is no checkpoint with this name")
    assert "segmentation/gat-v1" in result.stderr and "phaseseg models list" in result.stderr
