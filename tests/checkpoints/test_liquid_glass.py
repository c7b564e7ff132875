"""Bundled networks of liquid and glass know one from the other."""

from __future__ import annotations

import pytest

from checkpoints import liquid_glass
from phaseseg import list_checkpoints, load_checkpoint, predict

PLANE = [
    entry.name
    for entry in list_checkpoints("liquid_glass")
    if load_checkpoint(entry.name).config["network"]["dimensions"] == 2
]


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANE)
def test_a_liquid_and_a_glass(name):
    """Of a run that nothing was trained on: hot below, cold above one half."""
    frames = liquid_glass.frames(load_checkpoint(name))
    hot, cold = (predict(frames[which], name)["frame_glass_probability"] for which in ("hot", "cold"))
    assert hot < 0.5 < cold
