"""The command line with files as strangers write them: what is read, and what is said about it."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from faces import command_line
from faces.command_line import done, flat, melt, refused
from phaseseg.frame import Frame
from phaseseg.io import read_frames, write_frames
from phaseseg.terminal.errors import INPUT, USAGE

label = partial(command_line.run, "label")


@pytest.fixture
def melt_xyz(tmp_path: Path) -> Path:
    write_frames(tmp_path / "melt.xyz", [melt()])
    return tmp_path / "melt.xyz"


def test_odd_keys_and_times_do_not_block_the_output(melt_xyz: Path, tmp_path: Path) -> None:
    text = melt_xyz.read_text().replace("pbc=", 'mtt::U0=-3.25 time=12:30:05 "a \\"b\\""=2 pbc=')
    melt_xyz.write_text(text)
    said = done("label", melt_xyz, "-o", tmp_path / "out.xyz")
    assert "The time in the file, '12:30:05', is not a number and was left out." in said
    [frame] = read_frames(tmp_path / "out.xyz")
    assert (frame.time, frame.info["mtt::U0"], frame.info['a "b"']) == (None, -3.25, 2.0)


def test_a_column_whose_name_does_not_fit_is_renamed_with_a_warning(tmp_path: Path) -> None:
    write_frames(tmp_path / "in.dump", [melt().replace(fields={"charge": np.arange(1500.0)})] * 2)
    text = (tmp_path / "in.dump").read_text().replace("charge", "c_q:all")
    (tmp_path / "in.dump").write_text(text)
    result = label(tmp_path / "in.dump", "-o", tmp_path / "out.xyz", "--json")
    assert result.exit_code == 0, result.stderr
    assert flat(result.stderr).count("'c_q:all' is written as c_q_all") == 1
    assert any("c_q_all" in message for message in json.loads(result.stdout)["messages"])
    assert "c_q_all" in next(read_frames(tmp_path / "out.xyz", fields=True)).fields


@pytest.mark.slow
def test_a_missing_line_end_is_said(tmp_path: Path) -> None:
    path = tmp_path / "in.dump"
    write_frames(path, [melt()])
    path.write_text(path.read_text().rstrip())
    assert "has no line end" in done("label", path)
    assert "has no line end" in done("predict", path, "-m", "gcn-3000K-v1")
    assert "has no line end" in done("evaluate", path, "-m", "gcn-3000K-v1")
    assert "has no line end" in done("select", path, "-m", "gcn-3000K-v1", "-n", 1)


@pytest.mark.slow
def test_plain_xyz_with_a_cell(melt_xyz: Path, tmp_path: Path) -> None:
    lines = melt_xyz.read_text().splitlines()
    plain = tmp_path / "plain.xyz"
    plain.write_text("\n".join([lines[0], "a melt", *(" ".join(line.split()[:4]) for line in lines[2:]), ""]))
    edges = ",".join(map(str, next(read_frames(melt_xyz)).cell.diagonal()))
    for word in (["label"], ["predict", "-m", "gcn-3000K-v1"]):
        said = (
            "the file has no cell, and an analysis needs one. Give its edges in Å, as in --cell 30,30,30, or"
        )
        refused(INPUT, said, *word, plain)
        found = json.loads(command_line.run(*word, plain, "--cell", edges, "--json", "-q").stdout)
        expected = json.loads(command_line.run(*word, melt_xyz, "--json", "-q").stdout)
        assert found["tables"]["composition"] == expected["tables"]["composition"]
        refused(USAGE, "cell must be 3 edges", *word, plain, "--cell", "1,2")


# ------------------------------------------------------------------- other atoms, and no atoms


@pytest.fixture(
    params=["changing", *(pytest.param(name, marks=pytest.mark.slow) for name in ("empty", "empty first"))]
)
def unequal(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[int]]:
    """A trajectory whose number of atoms changes, and the numbers."""
    none = melt().take([])
    frames = {
        "changing": [melt(), melt(1, 1600), melt(2)],
        "empty": [melt(), none, melt(2)],
        "empty first": [none, melt(), melt(2)],
    }[request.param]
    write_frames(tmp_path / "in.dump", [frame.replace(timestep=k) for k, frame in enumerate(frames)])
    return tmp_path / "in.dump", [len(frame) for frame in frames]


WORDS = [["label"], pytest.param(["predict", "-m", "gcn-3000K-v1"], marks=pytest.mark.slow)]


@pytest.mark.parametrize(
    ("word", "workers"),
    [
        (["label"], 1),
        pytest.param(["label"], 2, marks=pytest.mark.slow),
        pytest.param(["predict", "-m", "gcn-3000K-v1"], 1, marks=pytest.mark.slow),
    ],
)
def test_another_number_of_atoms_is_read_and_said(
    unequal: tuple[Path, list[int]], tmp_path: Path, word: list[str], workers: int
) -> None:
    path, counts = unequal
    out = tmp_path / "out.xyz"
    result = command_line.run(*word, path, "-o", out, "--json", "--workers", workers)
    assert result.exit_code == 0, result.stderr
    said, found = flat(result.stderr), json.loads(result.stdout)
    assert "The number of atoms changes from frame to frame" in said
    assert ("The frame has no atoms. (1 of 3 frames)" in said) == (0 in counts)
    series = found["tables"]["time_series"]
    assert [row["atoms"] for row in series] == counts
    assert [row["n_phases"] is None for row in series] == [n == 0 for n in counts]
    written = list(read_frames(out, fields=True))
    assert [len(frame) for frame in written] == counts
    assert all("phase" in frame.fields for frame in written if len(frame))


@pytest.mark.slow
@pytest.mark.parametrize("word", WORDS)
def test_another_number_of_atoms_in_a_report(
    unequal: tuple[Path, list[int]], tmp_path: Path, word: list[str]
) -> None:
    assert "report.html" in done(*word, unequal[0], "--report", tmp_path, "-o", tmp_path / "out.csv")


def test_pooled_and_scanned_frames_may_lack_atoms(unequal: tuple[Path, list[int]]) -> None:
    done("label", unequal[0], "--pooled", "--boundary-scan")


def test_averages_need_the_same_atoms(unequal: tuple[Path, list[int]]) -> None:
    words = "the frame has no atoms" if unequal[1][0] == 0 else "averaging needs the same atoms"
    refused(INPUT, words, "label", unequal[0], "--average", 2, "--dt", 1)


def test_metrics_of_frames_without_atoms(tmp_path: Path) -> None:
    glass = []
    for k, n in enumerate((80, 0, 90)):
        positions = np.random.default_rng(k).random((n, 3)) * [9, 9, 0]
        species, info = (np.arange(n) % 5 < 2).astype(int), {"temperature": 1.0 + k}
        frame = Frame(positions, [9, 9, 1], [1, 1, 0], species, ("A", "B"), units="lj", info=info)
        glass.append(frame)
    write_frames(tmp_path / "in.xyz", glass)
    result = command_line.run("metrics", tmp_path / "in.xyz", "--json", "--bootstrap", 0)
    assert result.exit_code == 0, result.stderr
    assert "The frame has no atoms. (1 of 3 frames)" in flat(result.stderr)
    rows = json.loads(result.stdout)["tables"]["frames"]
    assert [row["n_atoms"] for row in rows] == [80, 0, 90]
    assert [row["n_bb_edges"] is None for row in rows] == [False, True, False]
    result = command_line.run("predict", tmp_path / "in.xyz", "-m", "liquid_glass/dmpnn-v1", "--json")
    rows = json.loads(result.stdout)["tables"]["frames"]
    assert [row["atoms"] for row in rows] == [80, 0, 90]


def test_only_frames_without_atoms(tmp_path: Path) -> None:
    write_frames(tmp_path / "in.dump", [melt().take([])] * 2)
    for word in (["label"], ["predict", "-m", "gcn-3000K-v1"]):
        refused(INPUT, "no frame has atoms", *word, tmp_path / "in.dump", "-o", tmp_path / "out.xyz")
    assert not (tmp_path / "out.xyz").exists()
