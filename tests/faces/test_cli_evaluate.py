"""phaseseg evaluate and phaseseg select: what is printed, what is written, and the exit code."""

import csv
import json

import numpy as np
import pytest

from faces.command_line import refused, run
from phaseseg.checkpoint import save_checkpoint
from phaseseg.families.segmentation.labels.weak_labels import label_frame
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.io import write_frames


@pytest.fixture(scope="module")
def model(tmp_path_factory, make_checkpoint):
    path = tmp_path_factory.mktemp("model") / "share-v1.safetensors"
    save_checkpoint(make_checkpoint(n_members=2, cut=0.33), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory, small):
    """Three labeled frames of 3000 K and two of 4000 K."""
    folder = tmp_path_factory.mktemp("melts")
    rule = LabelRule("Fe", sigma=2.0, threshold=0.04).fixed()
    for temperature, n in ((3000, 3), (4000, 2)):
        frames = small[temperature][:n]
        write_frames(
            folder / f"melt_{temperature}.xyz", ((frame, label_frame(frame, rule)) for frame in frames)
        )
    return [folder / "melt_3000.xyz", folder / "melt_4000.xyz"]


@pytest.mark.slow
def test_scores_and_report(model, files, tmp_path):
    folder = tmp_path / "report"
    result = run("evaluate", *files, "-m", model, "--baselines", "--members", "--report", folder)
    assert result.exit_code == 0, result.output
    for words in ("2 files against weak labels (5 frames", "share-v1", "Fe fraction within 6 Å", "member 2",
                  "three classes, boundary 2.7 Å", "three classes, boundary 0.68 Å", "composition excluding",
                  "Number of phases agrees in 5 of 5 frames"):  # fmt: skip
        assert words in result.stdout
    assert "which favors the baselines" in result.stderr and "5 frames evaluated in" in result.stderr
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert metrics["frames"] == 5 and metrics["inputs"] == [path.name for path in files]
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["method"] == "segmentation/share-v1" and len(rows) == 8
    assert (folder / "report.html").read_text("utf-8").count("<img") == 7
    assert (folder / "groups.csv").is_file() and (folder / "slices_0.68.png").is_file()


@pytest.mark.slow
def test_a_column_of_the_file_and_json(model, files):
    arguments = ("evaluate", files[0], "-m", model, "--boundary-width", "0.68", "--json")
    weak = json.loads(run(*arguments).stdout)
    result = run(*arguments, "--reference", "phase")
    assert result.exit_code == 0, result.output
    column = json.loads(result.stdout)
    assert column["reference"] == "the column phase" and column["boundary_widths"] == [0.68]
    # The labels in the file are those of the same rule.
    name = column["method"]
    assert column["methods"][name]["confusion"] == weak["methods"][name]["confusion"]
    assert column["checkpoint"]["hash"] == weak["checkpoint"]["hash"] and weak["reference"] == "weak labels"


def test_frames_of_a_file(model, files):
    result = run("evaluate", files[0], "-m", model, "--frames", "1:", "--json", "-q")
    assert json.loads(result.stdout)["frames"] == 2 and not result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--reference", "nothing"], 3, "there is no column 'nothing'"),
        (["--boundary-width", "-1"], 2, "--boundary-width must be a number of at least 0"),
        (["--boundary-width", "nan"], 2, "--boundary-width must be a number"),
        (["--frames", "x"], 2, "--frames must be"),
        (["--frames", "9:"], 3, "no frame"),
        (["--device", "abacus"], 3, "device must be"),
    ],
)
def test_what_cannot_be_evaluated(model, files, arguments, code, words):
    refused(code, words, "evaluate", files[0], "-m", model, *arguments)


def test_a_missing_file_or_model_and_a_report_in_the_way(model, files, tmp_path):
    refused(3, "no.xyz", "evaluate", tmp_path / "no.xyz", "-m", model)
    refused(3, "gat-v77", "evaluate", files[0], "-m", "gat-v77")
    (tmp_path / "taken").touch()
    refused(2, "this is a file", "evaluate", files[0], "-m", model, "--report", tmp_path / "taken")


@pytest.mark.slow
def test_a_file_that_is_given_twice_counts_once(model, files):
    once, twice = (
        json.loads(run("evaluate", *[files[0]] * n, "-m", model, "--json", "-q").stdout) for n in (1, 2)
    )
    assert twice["frames"] == once["frames"] and twice["methods"].keys() == once["methods"].keys()
    once, twice = (
        json.loads(run("select", *[files[0]] * n, "-m", model, "-n", 2, "--json").stdout) for n in (1, 2)
    )
    assert [row["frame"] for row in twice["chosen"]] == [row["frame"] for row in once["chosen"]]


def test_select(model, files, tmp_path):
    listed = tmp_path / "next.csv"
    result = run("select", *files, "-m", model, "-n", 3, "-o", listed)
    assert result.exit_code == 0, result.output
    assert "Frames to label next, of 5" in result.stdout and "Written" in result.stderr
    with listed.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and {row["file"] for row in rows} <= {path.name for path in files}
    assert rows[0]["distance to nearest"] == "" and float(rows[1]["distance to nearest"]) > 0
    again = json.loads(run("select", *files, "-m", model, "-n", 3, "--json").stdout)
    chosen = [(row["file"], row["frame"]) for row in again["chosen"]]
    assert chosen == [(row["file"], int(row["frame"])) for row in rows]
    # What lies next to labeled frames is worth less.
    near = files[chosen[0][0] != files[0].name]
    other = json.loads(run("select", *files, "-m", model, "-n", 1, "--json", "--labeled", near).stdout)
    assert other["chosen"][0]["file"] != chosen[0][0] or other["chosen"][0]["distance to nearest"] == 0


def test_frames_keep_their_numbers(model, files):
    result = json.loads(run("select", files[0], "-m", model, "-n", 1, "--frames", "2:", "--json").stdout)
    assert result["chosen"][0]["frame"] == 2 and np.isfinite(result["chosen"][0]["uncertainty"])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-n", "9"], 3, "9 frames were requested, but there are only 3 frames"),
        (["-n", "0"], 2, "-n must be at least 1"),
        (["-n", "1", "-o", "list.xyz"], 2, "written as .csv or .json"),
    ],
)
def test_what_cannot_be_selected(model, files, arguments, code, words):
    refused(code, words, "select", files[0], "-m", model, *arguments)


def test_glass_networks_are_evaluated_by_the_temperature_of_frames(run_file, glass_file, tmp_path):
    options = ("--glass-below", 0.3, "--liquid-above", 1, "--report", tmp_path / "report")
    result = run("evaluate", run_file, "-m", glass_file, *options)
    assert result.exit_code == 0, result.stderr
    assert "accuracy" in result.stdout and "5 frames evaluated in" in result.stderr
    written = json.loads((tmp_path / "report" / "metrics.json").read_text("utf-8"))
    assert written["inputs"] == ["cooled.xyz"] and (tmp_path / "report" / "report.html").is_file()


@pytest.mark.parametrize("option", ["--glass-below", "--liquid-above"])
def test_options_of_another_family_are_refused(model, files, option):
    words = f"{option} is an option for networks of the family liquid_glass"
    refused(2, words, "evaluate", files[0], "-m", model, option, 1)
