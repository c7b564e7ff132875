"""The command line with files as strangers write them: what is read, and what is said about it."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from faces import command_line
from faces.command_line import done, flat, melt
from phaseseg.io import read_frames, write_frames

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


def test_a_missing_line_end_is_said(tmp_path: Path) -> None:
    path = tmp_path / "in.dump"
    write_frames(path, [melt()])
    path.write_text(path.read_text().rstrip())
    assert "has no line end" in done("label", path)
    assert "has no line end" in done("predict", path, "-m", "gcn-3000K-v1")
