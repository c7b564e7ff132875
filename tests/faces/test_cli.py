"""The command line: what it writes, what it prints, and one sentence with an exit code for bad input."""

import csv
import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import phaseseg
from faces import command_line
from faces.command_line import (
    ENVIRONMENT,
    done,
    flat,
    interrupted_at_the_end,
    interrupted_by_control_c,
    melt,
    refused,
    same_bytes_with_workers,
)
from phaseseg.compiled.threads import thread_count
from phaseseg.families.segmentation.labels import weak_labels
from phaseseg.families.segmentation.labels.weak_labels import label_frame
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.frame import Frame
from phaseseg.io import read_frames, write_frames
from phaseseg.terminal.errors import FAILURE, INPUT, INTERRUPTED, USAGE

run = partial(command_line.run, "label")


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("melt") / "melt.dump.gz"
    write_frames(path, [(melt(seed), {}) for seed in range(5)])
    return path


# -------------------------------------------------------------------------------------- results


def test_labels_are_those_of_the_library(trajectory: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.xyz"
    result = run(
        trajectory, "-o", output, "--sigma", 1.6, "--boundary-width", 1.2, "--threshold", "two-means"
    )
    assert result.exit_code == 0, result.stderr
    rule = LabelRule("Fe", sigma=1.6, boundary_width=1.2, threshold="two-means").fixed()
    for frame, written in zip(read_frames(trajectory), read_frames(output, fields=True), strict=True):
        fields = label_frame(frame, rule)
        assert np.array_equal(written.fields["phase"], fields["phase"])
        assert np.array_equal(written.fields["domain"], fields["domain"])
        assert np.allclose(written.fields["interface_distance"], fields["interface_distance"], rtol=1e-6)


@pytest.mark.parametrize("name", ["out.dump", "out.lammpstrj.gz", "out.extxyz.gz"])
def test_the_name_of_the_output_decides_its_format(trajectory: Path, tmp_path: Path, name: str) -> None:
    assert run(trajectory, "-o", tmp_path / name, "--frames", ":2").exit_code == 0
    written = list(read_frames(tmp_path / name, fields=True))
    assert len(written) == 2 and "phase" in written[0].fields


@pytest.mark.slow
def test_workers_write_the_same_bytes(trajectory: Path, tmp_path: Path) -> None:
    same_bytes_with_workers(tmp_path, {"-o": "out.xyz"}, "label", trajectory)


def test_threads_write_the_same_bytes(
    trajectory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number reaches the analysis, and is that of before afterwards."""
    seen = []

    def label(frame: Frame, rule: Any, label: Any = weak_labels.label_frame) -> Any:
        seen.append(thread_count())
        return label(frame, rule)

    monkeypatch.setattr(weak_labels, "label_frame", label)
    before, written = thread_count(), []
    for n in (1, 3):
        output = tmp_path / f"{n}.xyz"
        done("label", trajectory, "-o", output, "--threads", n)
        written.append(output.read_bytes())
    assert written[0] == written[1] and {*seen} == {1, 3} and thread_count() == before


@pytest.mark.parametrize("word", ["label", "predict", "metrics", "mine", "evaluate", "select"])
def test_words_take_a_number_of_threads(word: str) -> None:
    assert "--threads" in run(word, "--help").stdout
    refused = run(word, "file.xyz", "--threads", "0")
    assert refused.exit_code == 2 and "--threads" in refused.stderr


def test_columns_of_the_input_are_kept(tmp_path: Path) -> None:
    source, output = tmp_path / "in.dump", tmp_path / "out.dump"
    write_frames(source, [(melt(), {"charge": np.arange(1500) / 7})])
    assert run(source, "-o", output).exit_code == 0
    assert np.allclose(
        next(read_frames(output, fields=True)).fields["charge"], np.arange(1500) / 7, rtol=1e-6
    )


def test_composition_is_printed_and_messages_go_to_standard_error(trajectory: Path) -> None:
    result = run(trajectory)
    assert result.exit_code == 0
    assert "rich" in result.stdout and "±" in result.stdout and "5 frames" in result.stdout
    assert "Two phases" in result.stderr and "Two phases" not in result.stdout
    assert "5 frames labeled in" in result.stderr


@pytest.mark.slow
def test_quiet_prints_nothing(trajectory: Path, tmp_path: Path) -> None:
    result = run(trajectory, "-o", tmp_path / "a.xyz", "--quiet", "--report", tmp_path / "report")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert (tmp_path / "report" / "report.html").is_file()


def test_json_alone_is_on_standard_output(trajectory: Path, tmp_path: Path) -> None:
    result = run(trajectory, "--json", "--frames", "0", "--boundary-scan", "-o", tmp_path / "a.xyz")
    assert result.exit_code == 0
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert found["version"] == phaseseg.__version__ and found["frames"] == 1
    assert (
        found["rule"]["sigma"] == found["tables"]["time_series"][0]["sigma (Å)"] == 2 * found["rule"]["voxel"]
    )
    rich = found["tables"]["composition"][0]
    assert rich["phase"] == "rich" and rich["Fe (wt%)"] > 90
    assert rich["Fe (wt%) ±"] is None  # one frame has no error
    assert {"partition", "scalars", "time_series", "proxigram", "boundary_scan"} <= set(found["tables"])
    assert any("Two phases" in sentence for sentence in found["messages"])


def test_tables_as_output(trajectory: Path, tmp_path: Path) -> None:
    assert run(trajectory, "-o", tmp_path / "out.json").exit_code == 0
    assert json.loads((tmp_path / "out.json").read_text())["frames"] == 5
    assert run(trajectory, "-o", tmp_path / "out.csv").exit_code == 0
    assert (tmp_path / "out.csv").read_text().startswith("phase,frames,atoms")
    assert (tmp_path / "out_time_series.csv").is_file()


@pytest.mark.parametrize(
    ("frames", "steps"),
    [("1:4:2", [100, 300]), ("-2:", [300, 400]), ("3", [300]), ("-1", [400]), ("::2", [0, 200, 400])],
)
def test_frames(trajectory: Path, tmp_path: Path, frames: str, steps: list[int]) -> None:
    result = run(trajectory, f"--frames={frames}", "-o", tmp_path / "o.xyz")
    assert result.exit_code == 0, result.stderr
    assert [frame.timestep for frame in read_frames(tmp_path / "o.xyz")] == steps


@pytest.mark.parametrize("word", ["label", "predict"])
def test_a_file_in_the_way_of_the_report_is_a_failure(trajectory: Path, tmp_path: Path, word: str) -> None:
    (tmp_path / "taken").touch()
    refused(FAILURE, "this is a file", word, trajectory, "--report", tmp_path / "taken")


@pytest.mark.slow
def test_pooled_takes_one_cut_for_all_frames(trajectory: Path) -> None:
    found = json.loads(run(trajectory, "--pooled", "--json").stdout)
    cuts = [row["threshold (Å^-3)"] for row in found["tables"]["time_series"]]
    assert len(set(cuts)) == 1 and found["rule"]["threshold"] == cuts[0]
    own = json.loads(run(trajectory, "--json").stdout)
    assert len({row["threshold (Å^-3)"] for row in own["tables"]["time_series"]}) == 5


def test_average_needs_times_which_dt_gives(trajectory: Path) -> None:
    assert run(trajectory, "--average", 0.1, "--dt", 0.001, "--json").exit_code == 0
    result = run(trajectory, "--average", 0.1)
    assert result.exit_code == INPUT and "needs the time of every frame" in flat(result.stderr)


def test_other_parameters_reach_the_rule(trajectory: Path) -> None:
    options = (
        "--species O --sigma 1.5 --voxel 1 --field mole-fraction --keep largest --at voxel --min-volume 50"
    )
    options += " --phases 2 --bulk-distance 4 --threshold 0.5 --by atom"
    rule = json.loads(run(trajectory, "--frames", "0", "--json", *options.split()).stdout)["rule"]
    assert rule == {"species": ["O"], "sigma": 1.5, "voxel": 1.0, "field": "mole-fraction", "threshold": 0.5,
                    "at": "voxel", "by": "atom", "keep": "largest", "min_volume": 50.0,
                    "boundary_width": 0.51, "phases": 2, "bulk_distance": 4.0, "average": None}  # fmt: skip


# ----------------------------------------------------------------------------------- bad usage


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--sigma", "0"], "sigma must be a positive length"),
        (["--voxel", "-1"], "voxel must be a positive length"),
        (["--threshold", "otsu"], "threshold must be steepest, two-means, midpoint or a number"),
        (["--threshold", "nan"], "threshold must be a finite number"),
        (["--field", "mass"], "field must be one of number, mole-fraction"),
        (["--keep", "some"], "keep must be one of"),
        (["--at", "grid"], "at must be one of"),
        (["--phases", "3"], "phases must be one of auto, 2"),
        (["--species", ""], "species must be names"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--average", "-1"], "--average must be a positive time"),
        (["--pooled", "--threshold", "0.04"], "--pooled determines one threshold"),
        (["--frames", "a:b"], "--frames must be start:stop:step"),
        (["--frames", "1:2:3:4"], "--frames must be start:stop:step"),
        (["--frames", "::0"], "the step must be 1 or more"),
        (["-o", "out.pdf"], "the format cannot be inferred from the name"),
        (["-o", "no/such/folder/out.xyz"], "its folder does not exist"),
        (["-o", "."], "this is a folder"),
        (["--dt", "0"], "dt"),
    ],
)
def test_bad_usage(trajectory: Path, options: list[str], sentence: str) -> None:
    refused(USAGE, sentence, "label", trajectory, *options)


def test_unknown_option_and_command() -> None:
    assert run("x.dump", "--sgima", "1").exit_code == USAGE
    assert command_line.run("lable").exit_code == USAGE


def test_the_input_is_not_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "in.xyz"
    write_frames(source, [(melt(), {})])
    before = source.read_bytes()
    refused(USAGE, "is the input", "label", source, "-o", source)
    assert source.read_bytes() == before


# ----------------------------------------------------------------------------------- bad input


def _text(frame: Frame, change: Callable[[list[str]], list[str]]) -> str:
    """A dump of a frame with changed lines."""
    rows = zip(frame.species + 1, frame.positions.tolist(), strict=True)
    lines = ["ITEM: TIMESTEP", "0", "ITEM: NUMBER OF ATOMS", str(len(frame)), "ITEM: BOX BOUNDS pp pp pp"]
    lines += [f"0 {length}" for length in np.diag(frame.cell)]
    lines += ["ITEM: ATOMS id type x y z"]
    lines += [f"{k + 1} {kind} {x} {y} {z}" for k, (kind, (x, y, z)) in enumerate(rows)]
    return "\n".join(change(lines)) + "\n"


TYPES = ["--types", "Fe,O"]
BAD_DUMPS = {
    "types without names": (lambda lines: lines, [], "type"),
    "nan": (lambda lines: [*lines[:20], "12 1 nan 1 1", *lines[21:]], TYPES, "nan"),
    "too few names": (lambda lines: lines, ["--types", "Fe"], "type"),
    "singular cell": (lambda lines: [*lines[:5], "0 0", *lines[6:]], TYPES, "cell"),
    "cut off": (lambda lines: lines[:700], TYPES, "ends after 691 of 1500 atom lines"),
    "no such species": (lambda lines: lines, [*TYPES, "--species", "Au"], "no species named 'Au'"),
    "zero atoms": (lambda lines: [*lines[:3], "0", *lines[4:9]], TYPES, "no frame has atoms"),
    "voxel for terabytes": (lambda lines: lines, [*TYPES, "--voxel", "0.001"], "GB of memory"),
    "sigma beyond half the cell": (
        lambda lines: lines,
        [*TYPES, "--sigma", "13"],
        "more than half of the cell",
    ),
    "no such frame": (lambda lines: lines, [*TYPES, "--frames", "7:"], "no frames"),
    "not a dump": (lambda lines: ["nothing", "to", "see"], TYPES, "bad.dump"),
    "empty": (lambda lines: [], TYPES, "bad.dump"),
}


@pytest.mark.parametrize("case", BAD_DUMPS)
def test_bad_input_gives_a_sentence_and_writes_nothing(case: str, tmp_path: Path) -> None:
    change, options, sentence = BAD_DUMPS[case]
    (tmp_path / "bad.dump").write_text(_text(melt(), change))
    output = tmp_path / "out.xyz"
    output.write_text("was here")
    refused(INPUT, sentence, "label", tmp_path / "bad.dump", "-o", output, *options)
    assert output.read_text() == "was here"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.dump", "out.xyz"]


def test_missing_file(tmp_path: Path) -> None:
    refused(INPUT, "none.dump", "label", tmp_path / "none.dump")


def test_missing_cell(tmp_path: Path) -> None:
    (tmp_path / "in.xyz").write_text("2\nno lattice\nFe 0 0 0\nO 1 1 1\n")
    result = run(tmp_path / "in.xyz")
    assert result.exit_code == INPUT and "cell" in flat(result.stderr).lower()


@pytest.mark.slow
def test_a_trajectory_that_breaks_off_leaves_no_output(trajectory: Path, tmp_path: Path) -> None:
    whole = trajectory.read_bytes()
    (tmp_path / "cut.dump.gz").write_bytes(whole[: len(whole) * 2 // 3])
    text = gzip.decompress(whole)
    (tmp_path / "cut.dump").write_bytes(text[: len(text) * 2 // 3])
    for name in ("cut.dump.gz", "cut.dump"):
        for workers in (1, 2):
            refused(INPUT, name, "label", tmp_path / name, "-o", tmp_path / "out.dump", "--workers", workers)
    assert not (tmp_path / "out.dump").exists() and len(list(tmp_path.iterdir())) == 2


# ------------------------------------------------------------------------------------- failure


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("name", ["out.xyz", "out.json", "out.csv"])
def test_disk_full(trajectory: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/full")
    refused(FAILURE, "the disk is full", "label", trajectory, "-o", tmp_path / name)


def test_an_interruption_discards_the_partial_output(
    trajectory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_at_the_end(monkeypatch, tmp_path, "label", trajectory)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("workers", "wait"), [(1, 0.5), (2, 0.0), (2, 0.2), (2, 0.8)])
def test_control_c_ends_cleanly(tmp_path: Path, workers: int, wait: float) -> None:
    interrupted_by_control_c(tmp_path, wait, "label", "--workers", workers)


# -------------------------------------------------------------------------------------- others


@pytest.mark.slow
def test_version_and_help_are_quick_and_light() -> None:
    """Nothing heavy is loaded for the help of any word, and little for a listing."""
    code = """
import sys
from typer.testing import CliRunner
from phaseseg import cli

def call(*words):
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.stderr
    return result.stdout

def loaded(*names):
    return [name for name in names if name in sys.modules]

heavy = "torch", "optuna", "numba", "scipy", "matplotlib", "ase", "safetensors"
for words in ([], ["predict"], ["train", "segmentation"], ["evaluate"], ["label"], ["models", "show"]):
    assert "--help" in call(*words, "--help"), words
print(loaded(*heavy, "numpy"))
call("models", "list")
print(loaded(*heavy))
"""
    found = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert found.stdout.split() == ["[]", "[]"], found.stdout + found.stderr
    result = command_line.run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"phaseseg {phaseseg.__version__}\n")


@pytest.mark.slow
@pytest.mark.usefixtures("minimized_once")
def test_demo_labels_the_bundled_melts_and_follows_the_bundled_liquids(tmp_path: Path) -> None:
    result = command_line.run("demo", "-o", tmp_path / "demo")
    assert result.exit_code == 0, result.stderr
    for name in ("large_3000K", "small_3000K"):
        assert (tmp_path / "demo" / f"melt_{name}" / "report.html").is_file()
    large = next(read_frames(tmp_path / "demo" / "melt_large_3000K.xyz", fields=True))
    assert len(large) == 33280 and set(np.unique(large.fields["phase"])) == {0, 1, 2}
    assert len(list(read_frames(tmp_path / "demo" / "melt_small_3000K.xyz"))) == 66
    # One screen: what was done, with the reports and commands; the numbers are those of the files.
    lines = result.stdout.splitlines()
    assert len(lines) <= 24
    assert sum(line.startswith("  phaseseg ") for line in lines) == 4
    pages = [Path(line.removeprefix("  see ")) for line in lines if line.startswith("  see ")]
    assert len(pages) == 4 and all(page.is_file() for page in pages)
    (iron,) = [line for line in lines if "of the metal at 3000 K is Fe" in line]
    table = (tmp_path / "demo" / "melt_large_3000K" / "composition.csv").read_text("utf-8")
    (row,) = [row for row in csv.DictReader(table.splitlines()) if row["phase"] == "rich"]
    assert float(iron.split()[0]) == pytest.approx(float(row["Fe (wt%)"]), abs=0.06)
    counted = json.loads((tmp_path / "demo" / "glass_ka2d.json").read_text("utf-8"))
    assert len(counted["tables"]["frames"]) == 4 * 21
    assert 0.3 < counted["glass_temperature"] < 0.8
    scores = json.loads((tmp_path / "demo" / "liquid_ka3d_t064" / "metrics.json").read_text("utf-8"))
    (table,) = [rows for name, rows in scores["tables"].items() if name == "scores"]
    assert [row["type"] for row in table] == ["A", "B"] and min(row["rho"] for row in table) > 0.4
    assert (tmp_path / "demo" / "liquid_ka3d_t064" / "map.png").is_file()
    assert (tmp_path / "demo" / "metals" / "report.html").is_file()
    assert 10 < len(list(read_frames(tmp_path / "demo" / "metals_subset.xyz", cell="open"))) < 40


def test_simulate_does_not_announce_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    from phaseseg.cli.simulate import _simulating
    from phaseseg.terminal import show

    shown = io.StringIO()
    terminal = partial(Console, file=shown, force_terminal=True, width=100)
    monkeypatch.setattr(show, "Console", lambda **_: terminal())
    with show.work_bar(quiet=False):
        pass
    assert show.COMPILES in shown.getvalue()
    shown.truncate(0)
    with _simulating(quiet=False):
        pass
    assert "starting" in shown.getvalue() and show.COMPILES not in shown.getvalue()


def test_simulate_passes_its_options_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from phaseseg import simulate

    seen: dict[str, object] = {}

    def simulated(output: Path, **options: object) -> simulate.MeltRun:
        options.pop("progress")(0.5, "half")  # type: ignore[operator]
        seen.update(options, output=output)
        return simulate.MeltRun(output, 520, 3, 10, 0.001, 3001.0, 30.8, -1.0, 2.0)

    monkeypatch.setattr(simulate, "simulate_melt", simulated)
    options = "--temperature 3500 --steps 10 --seed 7 --every 5 --replicate 2 --composition oxidized --resume"
    said = done("simulate", "melt", "-o", tmp_path / "a.dump", *options.split())
    assert seen == {"output": tmp_path / "a.dump", "temperature": 3500.0, "steps": 10, "seed": 7, "every": 5,
                    "replicate": 2, "composition": "oxidized", "resume": True, "equilibration": 1.0,
                    "timestep": None}  # fmt: skip
    assert "3 frames of 520 atoms" in said


@pytest.mark.parametrize(("word", "dimensions", "n"), [("ka2d", 2, 4320), ("ka3d", 3, 4096)])
def test_simulate_kob_andersen_passes_its_options_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, word: str, dimensions: int, n: int
) -> None:
    from phaseseg import simulate

    seen: dict[str, object] = {}

    def simulated(output: Path, **options: object) -> simulate.KobAndersenRun:
        options.pop("progress")(0.5, "half")  # type: ignore[operator]
        seen.update(options, output=output)
        return simulate.KobAndersenRun(output, None, n, 3, 10, 0.05, -3.8, None, 2.0)

    monkeypatch.setattr(simulate, "simulate_kob_andersen", simulated)
    options = "--cooling-steps 10 --seed 7 --temperatures 1.99,0.05 --inherent --resume"
    arguments = ("simulate", word, "-o", tmp_path / "a.xyz", *options.split())
    said = done(*arguments)
    assert seen == {"output": tmp_path / "a.xyz", "dimensions": dimensions, "n_particles": n, "density": 1.2,
                    "b_fraction": {2: 0.35, 3: 0.2}[dimensions], "cooling_steps": 10, "seed": 7,
                    "temperatures": (1.99, 0.05), "inherent": True, "resume": True,
                    "equilibration_steps": 20_000}  # fmt: skip
    assert f"3 frames of {n:,} particles" in said
    refused(USAGE, "--temperatures must be comma-separated numbers", *arguments, "--temperatures", "hot")


def test_simulate_propensities_passes_its_options_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from phaseseg.simulate import kob_andersen_3d as module

    seen: dict[str, object] = {}

    def simulated(output: Path, **options: object) -> list[module.PropensityRun]:
        options.pop("progress")(0.5, "half")  # type: ignore[operator]
        seen.update(options, output=output)
        return [module.PropensityRun(output, 4096, 32, 0.6, (1.3,), -7.0, 5.5, (0.2,), (0.9,), 2.0)]

    monkeypatch.setattr(module, "simulate_systems", simulated)
    options = "--isoconfigurational 32 --times 1.3,16.5 --temperature 0.6 --systems 3 --start a.xyz --seed 7"
    arguments = ("simulate", "ka3d", "-o", tmp_path / "a.npz")
    said = done(*arguments, *options.split(), "--resume")
    assert seen == {"output": tmp_path / "a.npz", "runs": 32, "times": (1.3, 16.5), "temperature": 0.6,
                    "systems": 3, "start": Path("a.xyz"), "seed": 7, "resume": True, "n_particles": 4096,
                    "b_fraction": 0.2, "density": 1.2, "equilibration": 165.0}  # fmt: skip
    assert "0.2000 after 1.3 (ceiling 0.900)" in said
    assert "The energy still changes, by +5.5 standard errors" in said
    refused(USAGE, "--times belongs to propensities", *arguments, "--times", "3")
    refused(USAGE, "--inherent belongs to cooling", *arguments, "--isoconfigurational", "2", "--inherent")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("bad"), USAGE),
        (FileExistsError("in the way"), USAGE),
        (ImportError("no LAMMPS"), FAILURE),
        (RuntimeError("stopped"), FAILURE),
        (KeyboardInterrupt("kept"), INTERRUPTED),
    ],
)
def test_simulate_failures(monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int) -> None:
    from phaseseg import simulate

    def failing(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(simulate, "simulate_melt", failing)
    refused(code, str(error), "simulate", "melt", "-o", "x.dump")
