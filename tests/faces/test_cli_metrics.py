"""`phaseseg metrics`: the table of the library, temperatures from anywhere, one sentence for bad input."""

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from faces import command_line
from faces.command_line import done, flat, refused, same_bytes_with_workers
from phaseseg import glass_metrics
from phaseseg.frame import Frame
from phaseseg.io import read_frames, write_frames
from phaseseg.terminal.errors import INPUT, USAGE

run = partial(command_line.run, "metrics")
TEMPERATURES = (1.2, 0.9, 0.6, 0.45, 0.3, 0.2, 0.1)


def mixture(seed: int, temperature: float | None, n: int = 12, **more: object) -> Frame:
    """A and B on a square lattice, which vibration of the given temperature disturbs."""
    rng = np.random.default_rng(seed)
    sites = np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), axis=-1).reshape(-1, 2)
    moved = sites + 0.25 * np.sqrt(temperature or 1.0) * rng.normal(size=sites.shape)
    positions = np.column_stack([moved, np.zeros(len(moved))])
    species = np.where(np.random.default_rng(1000 + seed // 100).random(len(sites)) < 0.35, "B", "A")
    info = {} if temperature is None else {"temperature": temperature}
    frame = Frame(positions, [float(n), float(n), 1.0], [True, True, False], species, units="lj", info=info)
    return frame.replace(**more)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    paths = [folder / f"run_{k}.xyz.gz" for k in range(4)]
    for k, path in enumerate(paths):
        frames = []
        for m, t in enumerate(TEMPERATURES):
            frame = mixture(100 * k + m, t)
            energy = -4 + 0.01 * t + 0.1 * max(t - 0.4, 0) + 0.001 * k
            frames.append(frame.replace(info={"temperature": t, "inherent_energy": energy, "seed": k + 1}))
        write_frames(path, [(frame, {}) for frame in frames])
    return paths


def table_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def test_rows_are_those_of_the_library(runs: list[Path], tmp_path: Path) -> None:
    result = run(*runs[:2], "-o", tmp_path / "t.csv", "--k", 3, "--rule", "b-only", "--bootstrap", 0)
    assert result.exit_code == 0, result.stderr
    rows = table_of(tmp_path / "t.csv")
    frames = [(path.name, frame) for path in runs[:2] for frame in read_frames(path)]
    assert len(rows) == len(frames) == 14
    for row, (name, frame) in zip(rows, frames, strict=True):
        fields = glass_metrics(frame, k=3, rule="b-only")
        assert row["run"] == name and float(row["temperature"]) == frame.info["temperature"]
        assert float(row["inherent_energy"]) == pytest.approx(frame.info["inherent_energy"], rel=1e-9)
        for column in ("n_disjoint_graphs", "n_bb_edges", "n_isolated_a"):
            assert int(row[column]) == fields[column]
        assert float(row["isolated_a_per_particle"]) == pytest.approx(fields["isolated_a_per_particle"])
    means = table_of(tmp_path / "t_means.csv")
    assert [float(row["temperature"]) for row in means] == sorted(TEMPERATURES)
    assert "disjoint graphs" in result.stdout and "T_g" in result.stderr


def test_json_holds_rows_analysis_and_sentences(runs: list[Path], tmp_path: Path) -> None:
    result = run(*runs, "--json", "-o", tmp_path / "t.json", "--bootstrap", 200)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    written = json.loads((tmp_path / "t.json").read_text())
    assert written == found
    assert found["glass_temperature"] == pytest.approx(0.4, rel=1e-6)
    assert {"frames", "means", "regression", "scan", "breaks", "energy"} <= set(found["tables"])
    assert len(found["tables"]["frames"]) == 28 and found["settings"]["rule"] == "all"
    assert any("T_g = 0.4" in sentence for sentence in found["messages"])


@pytest.mark.slow
def test_workers_give_the_same_rows(runs: list[Path], tmp_path: Path) -> None:
    same_bytes_with_workers(tmp_path, {"-o": "t.csv"}, "metrics", *runs[:2], "--bootstrap", 0)


@pytest.mark.slow
def test_report_and_quiet(runs: list[Path], tmp_path: Path) -> None:
    result = run(runs[0], "--tg", 0.4, "--report", tmp_path / "r", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert (tmp_path / "r" / "report.html").is_file() and (tmp_path / "r" / "metrics.png").is_file()


def test_one_run_says_so(runs: list[Path]) -> None:
    assert "There is only one run" in done("metrics", runs[0], "--tg", 0.4)


def test_temperatures_of_a_list_and_chosen_frames(runs: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "t.csv"
    done("metrics", runs[0], "--frames", "1:4:2", "--temperatures", "5, 4", "-o", output, "-q")
    rows = table_of(output)
    assert [(row["frame"], row["temperature"]) for row in rows] == [("1", "5.0"), ("3", "4.0")]


def test_another_key(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    write_frames(path, [(mixture(0, None, info={"T_bath": 0.7, "pressure": 1.0}), {})])
    done("metrics", path, "--temperature", "T_bath", "-o", tmp_path / "t.csv")
    assert table_of(tmp_path / "t.csv")[0]["temperature"] == "0.7"
    words = "a.xyz, frame 0: there is no temperature 'T'; the frame has T_bath, pressure"
    refused(INPUT, words, "metrics", path, "--temperature", "T", "-o", tmp_path / "u.csv")
    assert not (tmp_path / "u.csv").exists()


def test_frames_without_temperature_are_counted_not_analyzed(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    write_frames(path, [(mixture(0, None), {}), (mixture(1, None), {})])
    result = run(path, "-o", tmp_path / "t.csv")
    assert result.exit_code == 0 and "counted but not analyzed" in flat(result.stderr)
    assert "isolated A" in result.stdout
    rows = table_of(tmp_path / "t.csv")
    assert len(rows) == 2 and rows[0]["temperature"] == "" and int(rows[0]["n_bb_edges"]) > 0
    assert run(path, "--report", tmp_path / "r").exit_code == INPUT


def test_some_frames_without_temperature(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    write_frames(path, [(mixture(0, 0.5), {}), (mixture(1, None), {})])
    assert "1 of 2 rows have no temperature" in done("metrics", path)


def test_several_species_of_b(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    frame = mixture(0, 0.5)
    names = np.array(frame.species_names)[frame.species]
    write_frames(
        path, [(frame.replace(species=np.where(np.arange(144) % 5 == 0, "C", names), species_names=()), {})]
    )
    result = run(path, "--b", "B,C", "--json")
    assert result.exit_code == 0
    expected = glass_metrics(next(read_frames(path)), b=("B", "C"))
    assert json.loads(result.stdout)["tables"]["frames"][0]["n_bb_edges"] == expected["n_bb_edges"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("--b C", INPUT, "run_0.xyz.gz, frame 0: no species named 'C'"),
        ("--b A,B", INPUT, "need both A and B"),
        ("--temperatures 1,2", INPUT, "run_0.xyz.gz: 7 frames were read, but --temperatures has 2"),
        ("--temperatures 1,warm", USAGE, "comma-separated numbers"),
        ("--temperatures 1,-2", USAGE, "above 0"),
        ("--temperatures 1 --temperature T", USAGE, "not both"),
        ("--k 0", USAGE, "--k must be at least 1"),
        ("--rule some", USAGE, "--rule must be one of all, b-only"),
        ("--tg -1", USAGE, "--tg must be a temperature above 0"),
        ("--bootstrap -1", USAGE, "--bootstrap"),
        ("--workers 0", USAGE, "--workers"),
        ("-o a.xyz", USAGE, "must end in .csv or .json"),
    ],
)
def test_one_sentence_for_what_cannot_be(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(code, words, "metrics", runs[0], *options.split())
    assert not list(tmp_path.iterdir())


def test_k_beyond_the_other_particles(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    write_frames(path, [(mixture(0, 0.5, n=3, pbc=[False, False, False]), {})])
    refused(INPUT, "a.xyz, frame 0", "metrics", path, "--k", 9)


def test_a_file_twice_or_missing(runs: list[Path], tmp_path: Path) -> None:
    refused(USAGE, "given twice", "metrics", runs[0], runs[0])
    refused(INPUT, "none.xyz", "metrics", runs[0], tmp_path / "none.xyz")


def test_files_of_one_name_are_distinguished(runs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for folder in (tmp_path, tmp_path / "b"):
        write_frames(folder / "a.xyz", [(mixture(0, 0.5), {})])
    result = run(tmp_path / "a.xyz", tmp_path / "b" / "a.xyz", "--json")
    assert {row["run"] for row in json.loads(result.stdout)["tables"]["frames"]} == {
        str(tmp_path / "a.xyz"), str(tmp_path / "b" / "a.xyz"),
    }  # fmt: skip


def test_two_and_three_dimensions_do_not_mix(runs: list[Path], tmp_path: Path) -> None:
    frame = mixture(0, 0.5, n=6)
    thick = frame.replace(
        positions=frame.positions + [0, 0, 1] * np.random.default_rng(0).random((36, 1)) * 6,
        cell=[6.0, 6.0, 6.0], pbc=[True, True, True],
    )  # fmt: skip
    write_frames(tmp_path / "thick.xyz", [(thick, {})])
    words = "run_0.xyz.gz, frame 0 has two dimensions and thick.xyz, frame 0 three"
    refused(INPUT, words, "metrics", runs[0], tmp_path / "thick.xyz")
