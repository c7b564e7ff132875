"""Memory of labels and predictions of a few atoms in large cells, measured in a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from phaseseg import Frame, label_phases
from phaseseg.families.segmentation.labels import lattice as lattices, shells
from phaseseg.families.segmentation.labels.lattice import plan_lattice
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.families.segmentation.score_field import score_field

TILTED = [[10.0, 0, 0], [2.0, 10.0, 0], [0, 0, 1e4]]


def gas(cell, pbc=True, n=216, seed=0):
    """Random points, most of the first half of the cell Fe, those of the other half O."""
    rng = np.random.default_rng(seed)
    cell = np.diag(cell) if np.ndim(cell) == 1 else np.array(cell)
    fractions = rng.random((n, 3))
    rich = rng.random(n) < np.where(fractions[:, 2] < 0.5, 0.9, 0.1)
    return Frame(fractions @ cell, cell, pbc, np.where(rich, 0, 1), ("Fe", "O"), source="gas.xyz, frame 0")


# A grid that is almost empty -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "pbc", "options"),
    [
        ([6.0, 6, 3e4], True, {"sigma": 0.5}),
        ([16.0, 16, 16], True, {"sigma": 1.0, "voxel": 0.01}),
        ([20.0, 20, 1000], (True, True, False), {"sigma": 0.3}),
        (TILTED, True, {"sigma": 0.3}),
        ([6.0, 6, 1e9], True, {"sigma": 0.5}),  # no sigma would be wide enough, but a voxel is
        ([600.0, 600, 600], True, {"sigma": 1.0, "field": "mole-fraction"}),
    ],
)
def test_a_large_grid_that_is_almost_empty_is_refused_with_a_length_that_works(cell, pbc, options):
    frame = gas(cell, pbc)
    with pytest.raises(ValueError, match=r"^gas\.xyz, frame 0: voxels of .* GB of memory ") as caught:
        label_phases(frame, "Fe", **options)
    name, least = str(caught.value).split("choose a ")[1].removesuffix(" Å.").split(" of at least ")
    plan_lattice(frame, LabelRule(("Fe",), **options | {name: float(least)}).fixed())


@pytest.mark.slow
def test_scores_of_a_large_grid_that_is_almost_empty_are_refused():
    """The lengths of a checkpoint are no choice of the user."""
    frame = gas([50.0, 50, 3e5])
    with pytest.raises(ValueError, match=r"cut off the empty space, or open the axes \(pbc\)"):
        score_field(frame, np.zeros(216, np.float32), sigma=2.0, voxel=1.0, bound=10.0)
    opened = frame.replace(pbc=(True, True, False))
    assert score_field(opened, np.zeros(216, np.float32), sigma=2.0, voxel=1.0, bound=10.0).grid.values.size


def test_a_grid_that_is_no_emptier_than_a_droplet_in_a_box_is_not_refused():
    """500 atoms in 300 Å, at a sigma of 2 Å."""
    rng = np.random.default_rng(0)
    frame = Frame(rng.random((500, 3)) * 18, np.eye(3) * 300.0, True, np.arange(500) % 2, ("Fe", "O"))
    assert plan_lattice(frame, LabelRule(("Fe",), sigma=2.0).fixed()).n_voxels == 300**3


@pytest.mark.parametrize(
    "options", [{"sigma": 1e-300}, {"sigma": 1e-320, "voxel": 1e-320}, {"voxel": 1e-200}]
)
def test_voxels_that_cannot_be_counted_are_refused(options):
    with pytest.raises(ValueError, match=r"^gas\.xyz, frame 0: voxels of .* cannot be counted in a cell of"):
        label_phases(gas([16.0, 16, 16]), "Fe", **options)


def test_no_other_size_of_pieces_changes_the_volumes(monkeypatch):
    frame = gas([40.0, 40, 60], n=3000)
    want = label_phases(frame, "Fe", sigma=2.5, voxel=1.3, phases=2, min_volume=0.0)
    monkeypatch.setattr(shells, "BLOCKS_AT_ONCE", 70)
    found = label_phases(frame, "Fe", sigma=2.5, voxel=1.3, phases=2, min_volume=0.0)
    for name, values in want["proxigram"].columns.items():
        np.testing.assert_array_equal(found["proxigram"].columns[name], values)


def test_an_interface_without_facets_borders_on_no_void():
    """A rich phase that fills an open grid of three voxels has no facet, and areas of zero."""
    cell = [[-2.5, -11.0, 0.0], [13.0, 0, 0], [-1.8, 2.2, 12.0]]
    frame = Frame(np.full((150, 3), 8.0), cell, (True, False, False), np.arange(150) % 2, ("Fe", "O"))
    fields = label_phases(
        frame, "Fe", sigma=0.5, voxel=5.0, field="mole-fraction", threshold=0.0, phases=2, min_volume=10.0
    )
    assert fields["area_rich_poor"] == fields["area_rich_void"] == 0


# Memory that is really used -------------------------------------------------------------------------

CHILD = """
import gc, json
from pathlib import Path
import numpy as np
from families.test_memory import gas
from phaseseg import Frame, label_phases
from phaseseg.compiled import buffer_pool
from phaseseg.families.segmentation.score_field import score_field, with_voids
from phaseseg.families.segmentation.rules import LabelRule

def megabytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))

def bytes_per_voxel(work, frame):
    work(gas(frame.cell / 5))  # compiled and imported before
    gc.collect()
    buffer_pool._shelf.__init__()
    Path("/proc/self/clear_refs").write_text("5")
    before, n = megabytes("VmRSS"), work(frame)
    return (megabytes("VmHWM") - before) * 2**20 / n

def labels(**options):
    given = {"phases": 2, "min_volume": 0.0} | options
    return lambda frame: label_phases(frame, "Fe", **given)["density_grid"].values.size

def ball(edge):
    # Jittered sites of a droplet, half Fe and half O.
    x = np.stack(np.meshgrid(*[np.arange(-10, 12, 2.2)] * 3), axis=-1).reshape(-1, 3)
    x += np.random.default_rng(0).uniform(-0.5, 0.5, x.shape)
    x = x[np.linalg.norm(x, axis=1) < 10]
    return Frame(x + edge / 2, np.eye(3) * edge, True, (x[:, 0] > 0).astype(int), ("Fe", "O"))

def scores(frame):
    frame = ball(frame.cell[0, 0])
    score = np.where(frame.species == 0, 2, -2).astype(np.float32)
    field = score_field(frame, score, sigma=2.0, voxel=1.0, bound=10.0)
    rule = LabelRule(("Fe",), sigma=2.0, threshold=0.04).fixed()
    field = with_voids(field, rule, (frame.species == 0)[field.atoms.order], 10.0, 6.0)
    assert field.matter is not None
    return field.grid.values.size

print(json.dumps({
    "labels": bytes_per_voxel(labels(sigma=2.0), gas([160.0] * 3)),
    "coarse voxels": bytes_per_voxel(labels(sigma=8.0, voxel=4.0), gas([640.0] * 3)),
    "tilted": bytes_per_voxel(labels(sigma=2.0), gas([[160.0, 0, 0], [30.0, 160, 0], [0, 20.0, 160]])),
    "scores": bytes_per_voxel(scores, gas([160.0] * 3)),
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of the memory is read from /proc")
def test_memory_is_that_of_a_few_fields():
    """Fields take 4 bytes per voxel, and the grid is planned with five of them at most."""
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {tests!r})\n{CHILD}"], check=True,
        capture_output=True, text=True, timeout=300,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "100000"},  # freed arrays are really given back
    )  # fmt: skip
    used = json.loads(done.stdout)
    limits = {"labels": 17, "coarse voxels": 24, "tilted": 28, "scores": 28}
    assert {name: used[name] <= most for name, most in limits.items()} == dict.fromkeys(limits, True), used
    assert lattices.LARGEST_EMPTY / 18 * max(limits.values()) < 2e9
