"""A family that another package brings by an entry point, and that derives from nothing of ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import plain_family
from phaseseg import load_model, predict
from phaseseg.families import register
from phaseseg.testing import AWKWARD, check_conformance
from samples import unregister

TESTS = Path(plain_family.__file__).parent


@pytest.fixture
def heights():
    register(plain_family.FAMILY)
    yield load_model(plain_family.fit([], scale=2.0))
    unregister("heights")


def test_a_model_needs_no_base_class(heights):
    frame = AWKWARD["triclinic"]()
    found = predict(frame, heights, gain=3.0)
    np.testing.assert_allclose(found["height"], 6 * frame.positions[:, 2], rtol=1e-6)
    assert load_model(heights) is heights
    with pytest.raises(TypeError, match="dict is not a model: it has no checkpoint, rule, run, fields"):
        load_model({})


SCRIPT = """
import sys
from phaseseg import load_model, predict_frames, write_frames
from phaseseg.cli import main
from phaseseg.testing import AWKWARD
from ovito_phaseseg import network_modifier

def run(*words):
    try:
        sys.argv = ["phaseseg", *words]
        main()
    except SystemExit as end:
        assert not end.code, end.code

if __name__ == "__main__":
    frames = [AWKWARD["orthogonal"](), AWKWARD["triclinic"]()]
    write_frames("in.xyz", frames[:1])
    run("train", "heights", "in.xyz", "-o", "h.safetensors", "--scale", "2", "--axis", "x", "--names", "c,d")
    run("predict", "in.xyz", "-m", "h.safetensors", "-o", "out.xyz", "--gain", "2")
    model = load_model("h.safetensors")
    found = list(predict_frames(frames, model, workers=2))
    assert [len(fields["height"]) for fields in found] == [len(frame) for frame in frames]
    assert "height" in open("out.xyz").read()
    assert network_modifier("heights")(model_file="h.safetensors").gain == 1
    run("train", "heights", "--help")
"""


@pytest.mark.slow
def test_conformance(heights):
    check_conformance(heights, AWKWARD["orthogonal"]())


@pytest.mark.slow
def test_it_comes_with_a_package(tmp_path):
    """Found by its entry point in fresh processes, workers included; plain settings are flags."""
    about = tmp_path / "site" / "heights-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: heights\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[phaseseg.families]\nheights = plain_family:FAMILY\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    paths = [str(tmp_path / "site"), str(TESTS), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "COLUMNS": "100"},
    )  # fmt: skip
    assert not done.returncode, done.stderr
    flags = set(re.findall(r"--[a-z]+", done.stdout))
    assert {"--scale", "--axis", "--names", "--limit"} <= flags and "--notes" not in flags
    assert re.search(r"--axis +\S+ +.*x \| y \| z", done.stdout), done.stdout
