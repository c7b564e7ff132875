"""Structural metrics of frames in slabs: the numbers of the frame in memory, for any number of slabs."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from phaseseg import Frame, glass_metrics
from phaseseg.compiled import threads as threads_module
from phaseseg.families.liquid_glass import metrics_in_slabs as module
from phaseseg.families.liquid_glass.metrics_in_slabs import metrics_in_slabs
from phaseseg.frame import Category
from phaseseg.io import read_frames, write_frames
from phaseseg.io.pieces import read_pieces
from phaseseg.large import store as store_module
from phaseseg.large.disk import Disk, DiskError
from phaseseg.large.store import FrameStore
from phaseseg.testing import AWKWARD, permuted
from samples import disordered_mixture, shared_disk

RULES = ["all", "b-only"]
NUMBERS = (
    "n_disjoint_graphs", "n_bb_edges", "n_isolated_a",
    "disjoint_graphs_per_particle", "bb_edges_per_particle", "isolated_a_per_particle",
)  # fmt: skip


@pytest.fixture(autouse=True)
def thin_layers(monkeypatch):
    """Layers of two particles, thinner than the distances between neighbors, and halos that are too thin."""
    monkeypatch.setattr(store_module, "ATOMS_PER_LAYER", 2)
    monkeypatch.setattr(module, "MORE", 0)


def in_store(path, disk, rows=50, **more):
    frames = read_pieces(path, rows=rows, units="lj")
    store = FrameStore.read(next(frames), disk, **more)
    frames.close()
    return store


def assert_the_same(frame, folder, *, slabs=(1, 2, 3, 7), name="frame.xyz", new_disk=Disk, **options):
    path = folder / name
    write_frames(path, [(frame, None)])
    whole = next(read_frames(path, units="lj"))
    expected = glass_metrics(whole, **options)
    for n in slabs:
        with new_disk(folder) as disk:
            found = metrics_in_slabs(in_store(path, disk), disk, n, **options)
        assert found.fields == {name: expected[name] for name in NUMBERS}, n
        assert found.fields.messages == expected.messages and not found.columns
    return expected


def mixture(n, cell, pbc, seed, *, share=0.35, thick=1.0):
    """Particles anywhere, also outside of the cell along periodic vectors."""
    rng = np.random.default_rng(seed)
    fractions = rng.random((n, 3)) * [1, 1, thick]
    fractions += rng.integers(-2, 3, (n, 3)) * np.asarray(pbc) * (thick > 0)
    species = np.where(rng.random(n) < share, "B", "A")
    species[:2] = "A", "B"
    return Frame(fractions @ np.asarray(cell, float), cell, pbc, species, units="lj")


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "name", [n for n in AWKWARD if n not in ("one species", "one atom", "one atom, open")]
)
def test_awkward_frames(name, rule, tmp_path):
    frame = AWKWARD[name]()
    b = frame.species_names[int(np.unique(frame.species)[-1])]
    for k, slabs in ((1, (1, 3)), (2, (2, 7)), (5, (2, 3))):
        assert_the_same(frame, tmp_path, slabs=slabs, b=b, k=k, rule=rule)


CELLS = {
    "orthogonal": np.diag([9.0, 7.0, 6.0]),
    "triclinic": np.array([[9.0, 0, 0], [4, 7, 0], [-3, 2, 6]]),
    "not reduced": np.array([[9.0, 0, 0], [31, 7, 0], [-17, 22, 6]]),
    "thin along the slabs": np.diag([0.8, 12.0, 12.0]),
    "thin across the slabs": np.array([[40.0, 0, 0], [1, 0.9, 0], [0.3, 0.2, 1.1]]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("pbc", [(True, True, True), (False, True, True), (True, False, True), (False,) * 3])
def test_any_cell(name, pbc, tmp_path):
    frame = mixture(90, CELLS[name], pbc, seed=len(name))
    for rule in RULES:
        for k, slabs in ((1, (1, 3)), (2, (2, 7)), (6, (2, 3))):
            assert_the_same(frame, tmp_path, slabs=slabs, k=k, rule=rule)


@pytest.mark.parametrize("pbc", [True, (True, True, False), (False, True, True), False])
def test_two_dimensions(pbc, tmp_path):
    """Also a layer that lies on a face of the cell, half of it in the next image."""
    frame = mixture(150, np.diag([14.0, 9.0, 3.0]), (False, False, False), seed=4, thick=0.0).replace(pbc=pbc)
    assert frame.n_dimensions == 2
    assert_the_same(frame, tmp_path)
    if frame.pbc[2]:
        up = np.where(np.arange(150) % 2, 3.0, 0.0)[:, None] * [0, 0, 1]
        assert_the_same(frame.replace(positions=frame.positions + up), tmp_path)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_frames(data):
    pbc = data.draw(st.tuples(*[st.booleans()] * 3))
    n = data.draw(st.integers(8, 70))
    seed = data.draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(2, 12, 3)) + rng.uniform(-3, 3, (3, 3)) * data.draw(st.booleans())
    flat = data.draw(st.booleans()) and cell[2, 2] == cell[2].sum() == cell[:, 2].sum()
    frame = mixture(
        n, cell, pbc, seed, share=data.draw(st.sampled_from([0.1, 0.5, 0.9])), thick=float(not flat)
    )
    options = {"rule": data.draw(st.sampled_from(RULES)), "k": data.draw(st.integers(1, 6))}
    slabs = data.draw(st.sets(st.integers(1, 30), min_size=1, max_size=2))
    with tempfile.TemporaryDirectory() as folder:
        assert_the_same(frame, Path(folder), slabs=slabs, **options)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_crystals_in_any_order(rule, tmp_path):
    """Of neighbors that are equally far, the same ones are taken."""
    sites = np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3).astype(float)
    rng = np.random.default_rng(0)
    for cell in (np.eye(3) * 6, np.array([[6.0, 0, 0], [2, 6, 0], [0, -3, 6]])):
        frame = Frame(sites, cell, True, np.where(rng.random(216) < 0.3, "B", "A"), units="lj")
        for k in (1, 2, 4):
            assert_the_same(permuted(frame, rng.permutation(216)), tmp_path, k=k, rule=rule)


@pytest.mark.parametrize("seed", [150, 468, 497, 560])
def test_crystals_written_with_rounding(seed, tmp_path):
    """Lengths that differ by about 1e-9 from one to the next are equal in any order of the search."""
    rng = np.random.default_rng(seed)
    sites = np.stack(np.meshgrid(*[np.arange(7)] * 2, [0], indexing="ij"), axis=-1).reshape(-1, 3)
    steps = np.diag([*(rng.random(2) * 0.4 + 0.8), 1.0])
    steps[1, 0] = 0.5 * steps[0, 0]
    positions = rng.permutation(sites @ steps + rng.normal(0, 1e-9, sites.shape) * [1, 1, 0])
    species = np.where(np.arange(49) % 3 == 0, "B", "A")
    frame = Frame(positions, steps * [[7], [7], [1]], True, species, units="lj")
    for k in (1, 2, 3):
        assert_the_same(frame, tmp_path, k=k)


@pytest.mark.parametrize("seed", [1, 6, 7, 18])
def test_particles_on_the_faces_of_the_cell(seed, tmp_path):
    """Rounding decides on which side of a face they are, and may decide differently in two sums."""
    rng = np.random.default_rng(seed)
    cell = np.array([[17.3, 0.1, 0.7], [1.7, 6.1, -0.3], [0.4, 1.3, 5.9]])
    fractions = rng.integers(0, 100, (300, 3)) / 100
    fractions[:40, 0] = rng.integers(-3, 4, 40)
    frame = Frame(fractions @ cell, cell, True, np.where(rng.random(300) < 0.4, "B", "A"), units="lj")
    assert_the_same(frame, tmp_path, slabs=(2, 3, 9))


@pytest.mark.parametrize("pbc", [True, (False, True, True)])
def test_graphs_that_go_on_through_all_slabs(pbc, tmp_path):
    """Two rows of B along the slabs are one graph each, rows across them lie in one slab each."""
    sites = np.stack(np.meshgrid(np.arange(40), np.arange(4), [0], indexing="ij"), axis=-1).reshape(-1, 3)
    along = Frame(sites * [1.0, 3.0, 1.0], [40.0, 12.0, 1.0], pbc, sites[:, 1] % 2, ("A", "B"), units="lj")
    assert assert_the_same(along, tmp_path, slabs=(1, 2, 5, 40))["n_disjoint_graphs"] == 2
    across = Frame(sites * [3.0, 1.0, 1.0], [120.0, 4.0, 1.0], pbc, sites[:, 0] % 2, ("A", "B"), units="lj")
    assert assert_the_same(across, tmp_path, slabs=(1, 2, 5, 40))["n_disjoint_graphs"] == 20


def test_empty_slabs_and_neighbors_that_are_far(tmp_path):
    """A quarter of the cell is filled; in the rest, neighbors are slabs away."""
    frame = mixture(120, np.diag([8.0, 8.0, 8.0]), (True, True, True), seed=1)
    inside = frame.positions - np.floor(frame.positions / 8) * 8
    for pbc in (True, False):
        far = np.vstack([inside, [[25.0, 4, 4], [19.0, 1, 1]]])
        species = [*(frame.species_names[code] for code in frame.species), "B", "A"]
        wide = Frame(far, [32.0, 8, 8], pbc, species, units="lj")
        for rule in RULES:
            assert_the_same(wide, tmp_path, slabs=(1, 3, 6, 50), rule=rule)


def test_few_particles_without_images(tmp_path):
    """Slabs with no more particles than neighbors are wanted."""
    x = np.cumsum(np.random.default_rng(0).uniform(0.3, 2, 30))
    cell = [x.max() + 1, 0.2, 0.2]
    frame = Frame(x[:, None] * [1, 0, 0], cell, False, list("ABBAAA") * 5, units="lj")
    for k in (2, 5, 29):
        assert_the_same(frame, tmp_path, slabs=(4, 15), k=k)


@pytest.mark.parametrize("pbc", [True, (False, True, True)])
def test_slabs_counted_on_other_machines(pbc, tmp_path):
    assert_the_same(mixture(90, CELLS["triclinic"], pbc, seed=5), tmp_path, slabs=(4,), new_disk=shared_disk)


def test_a_dump_whose_species_are_numbered_late(tmp_path):
    frame = disordered_mixture(120, seed=3)
    frame = frame.take(np.argsort(-frame.species, kind="stable"))
    assert_the_same(frame, tmp_path, name="frame.dump")


def test_particles_by_name(tmp_path):
    """Words that have nothing to do with the species."""
    frame = disordered_mixture(200, seed=4)
    words = np.where(np.arange(200) % 3 == 0, "core", "shell")
    frame = frame.replace(categories={"name": Category.of(words)})
    assert_the_same(frame, tmp_path, b="name:core")
    assert_the_same(frame, tmp_path, b=("B", "name:core"))


def test_several_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(threads_module, "LONGEST_PART", 20)
    with threads_module.threads(3):
        assert_the_same(disordered_mixture(300, seed=5), tmp_path)


def test_only_a_part_is_in_memory(tmp_path, monkeypatch):
    """A search has the particles of one slab and of a layer on either side."""
    monkeypatch.setattr(store_module, "ATOMS_PER_LAYER", 200)
    monkeypatch.setattr(module, "MORE", 30)
    write_frames(tmp_path / "frame.xyz", [(mixture(6000, np.diag([40.0, 12, 12]), (True,) * 3, 0), None)])
    sizes, real = [], module.nearest_neighbors

    def counted(frame, *args, **more):
        sizes.append(len(frame))
        return real(frame, *args, **more)

    monkeypatch.setattr(module, "nearest_neighbors", counted)
    with Disk(tmp_path) as disk:
        metrics_in_slabs(in_store(tmp_path / "frame.xyz", disk), disk, 10)
    assert len(sizes) == 10 and max(sizes) < 6000 * 0.3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"b": "C"}, "no species named 'C'; the species here are A, B"),
        ({"b": ()}, "b names no species; the species of the frame are A, B"),
        ({"b": ("A", "B")}, "metrics need both A and B, but all particles are of species A, B"),
        ({"rule": "both"}, "rule must be one of all, b-only"),
        ({"k": 99}, "the 99 nearest neighbors were requested, but nothing is periodic"),
        ({"b": "name:B1"}, "'name:B1' asks for the name of the atoms; the frame has none"),
    ],
)
def test_what_is_refused(options, words, tmp_path):
    path = tmp_path / "frame.xyz"
    write_frames(path, [(mixture(60, np.eye(3) * 6, (False,) * 3, 0), None)])
    with Disk(tmp_path) as disk, pytest.raises(ValueError, match=rf"^frame.xyz.*{words}"):
        metrics_in_slabs(in_store(path, disk), disk, 3, **options)


@pytest.mark.slow
def test_an_interruption_and_a_full_disk_leave_no_file(tmp_path, monkeypatch):
    path = tmp_path / "frame.xyz"
    write_frames(path, [(mixture(60, np.eye(3) * 6, (True,) * 3, 0), None)])
    seen = []

    def stop(done, line):
        seen.append((done, line))
        if len(seen) > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Disk(tmp_path) as disk:
        metrics_in_slabs(in_store(path, disk), disk, 3, progress=stop)
    assert seen == [(0.0, "counting, slab 1 of 3"), (1 / 3, "counting, slab 2 of 3")]
    with Disk(tmp_path) as disk:
        store = in_store(path, disk)
        monkeypatch.setattr("phaseseg.large.disk._reserve", full)
        with pytest.raises(DiskError, match="the disk is full"):
            metrics_in_slabs(store, disk, 3)
    gc.collect()
    assert [one.name for one in tmp_path.iterdir()] == ["frame.xyz"]


def full(*_):
    raise OSError(28, "No space left on device")
