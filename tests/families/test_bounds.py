"""Every compiled loop once with bounds checking: no index leaves its array, in any awkward frame."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
from phaseseg import glass_metrics, label_phases, load_model
from phaseseg.compiled.jit import jit
from phaseseg.testing import AWKWARD, awkward_frames, tilted

def beyond(values):
    return values[values.size]

try:
    jit(beyond)(np.zeros(3))
    raise SystemExit("bounds are not checked")
except IndexError:
    pass

def checked(analyze, frame):
    try:
        analyze(frame)
    except ValueError as error:  # refused, with a sentence
        assert len(str(error)) > 20

def with_far_atom(frame):
    positions = frame.positions.copy()
    positions[0] += (~frame.pbc * 1e6) @ frame.cell
    return frame.replace(positions=positions)

def variants(frames):
    for make in frames.values():
        yield make()
        if not make().pbc.all():
            yield with_far_atom(make())
    yield tilted(frames["triclinic"]())

def label(frame):
    return label_phases(frame, "Fe", phases=2, min_volume=1.0)

def label_as_paper(frame):
    return label_phases(
        frame, "Fe", phases=2, min_volume=1.0, at="voxel", field="mole-fraction", threshold="two-means"
    )

segmentation = [load_model(name).predict for name in ("gat-v1", "gat-3000K-v1", "gcn-3000K-v1")]
for frame in variants(AWKWARD):
    for analyze in (label, label_as_paper, *segmentation):
        checked(analyze, frame)
for dimensions, names in ((2, ("dmpnn-v1", "dmpnn-attention-v1", "cnn-v1")), (3, ("dmpnn-3d-v1",))):
    models = [load_model(name).predict for name in names]
    for frame in variants(awkward_frames(("A", "B"), "lj", 0.9, dimensions, 1.5)):
        for analyze in (glass_metrics, *models):
            checked(analyze, frame)
print("checked")
"""


@pytest.mark.slow
def test_no_index_leaves_its_array(tmp_path):
    """In loops over single numbers, since vector instructions check nothing."""
    settings = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path), "PHASESEG_SIMD": "0"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=os.environ | settings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "checked" in done.stdout, done.stderr[-2000:]
