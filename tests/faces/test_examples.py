"""The session files in `examples` load in the free module and give the numbers of their pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ovito")

EXAMPLES = Path(__file__).parents[2] / "examples"
NUMBERS = json.loads((EXAMPLES / "numbers.json").read_text(encoding="utf-8"))


def test_every_example_is_complete():
    names = sorted(path.stem for path in EXAMPLES.glob("*.ovito"))
    assert names == sorted(NUMBERS) == sorted(path.stem for path in EXAMPLES.glob("*.png"))
    for name in names:
        session = (EXAMPLES / f"{name}.ovito").read_bytes()
        data = [path.name for path in (EXAMPLES / "data").iterdir() if path.name.encode() in session]
        assert len(data) == 1
        for folder in ("home", "root"):  # only the neutral folder
            assert f"/{folder}/".encode() not in session


@pytest.mark.slow
@pytest.mark.usefixtures("minimized_once")
@pytest.mark.parametrize(
    "name",
    ["two-liquids", "liquid-or-glass", "mobility", "environments"],
)
def test_a_session_gives_the_numbers_of_its_picture(name, tmp_path):
    command = [sys.executable, str(EXAMPLES / "make.py"), "--numbers", name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    found, expected = json.loads(done.stdout.splitlines()[-1]), NUMBERS[name]
    assert found["particles"] == expected["particles"] and found["legend"] == expected["legend"]
    assert found["legend"]
    assert found["attributes"] == pytest.approx(expected["attributes"], rel=1e-4, abs=1e-6)
