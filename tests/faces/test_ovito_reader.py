"""The reader of glass benchmarks in OVITO: the same numbers as `read_frames`, found without being named."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ovito")

from ovito.io import import_file

from faces.ovito_data import symbols
from mobility_samples import liquid
from ovito_phaseseg import GlassArchiveReader, Mobility
from phaseseg import load_model, predict, read_frames


@pytest.fixture
def archive(tmp_path):
    """A reduced system, as `phaseseg simulate ka3d` writes it."""
    frame = liquid(300)
    rng = np.random.default_rng(0)
    path = tmp_path / "system.npz"
    np.savez(
        path, positions=frame.positions, types=frame.species.astype(np.int8), box=np.diag(frame.cell),
        propensity=rng.random(300, dtype=np.float32), propensity_half=rng.random((2, 300)),
        propensity_time=np.array(16.5), temperature=np.array(0.64), units=np.array("lj"),
    )  # fmt: skip
    return path


def test_the_numbers_are_those_of_the_library(archive):
    data, frame = import_file(str(archive)).compute(), next(read_frames(archive, fields=True))
    np.testing.assert_array_equal(data.particles["Position"], frame.positions)
    np.testing.assert_allclose(data.cell[:3, :3].T, frame.cell)
    assert tuple(data.cell.pbc) == (True, True, True) and not data.cell.is2D
    names = {one.id: one.name for one in data.particles.particle_types.types}
    assert [names[code] for code in data.particles.particle_types[...].tolist()] == symbols(frame).tolist()
    assert set(frame.fields) == {"propensity", "propensity_half"}
    for name, values in frame.fields.items():
        np.testing.assert_array_equal(data.particles[name], values, name)
    assert data.attributes["temperature"] == 0.64 and data.attributes["units"] == "lj"
    assert data.attributes["propensity_time"] == 16.5


def test_modifiers_continue_with_it(archive, mobility_file):
    pipeline = import_file(str(archive))
    pipeline.modifiers.append(Mobility(model_file=mobility_file))
    found = pipeline.compute().particles["Propensity"]
    frame = next(read_frames(archive))
    np.testing.assert_array_equal(found, predict(frame, load_model(mobility_file))["propensity"])


def test_a_layer_of_particles_has_two_dimensions(tmp_path):
    rng = np.random.default_rng(1)
    path = tmp_path / "layer.npz"
    np.savez(path, initial_positions=rng.uniform(-16, 16, (1290, 2)), types=rng.integers(1, 4, 1290))
    data, frame = import_file(str(path)).compute(), next(read_frames(path))
    assert data.cell.is2D and frame.n_dimensions == 2
    np.testing.assert_array_equal(data.particles["Position"], frame.positions)


def test_other_files_are_left_to_other_readers(tmp_path, archive):
    assert GlassArchiveReader.detect(str(archive))
    for name, arrays in (("other.npz", {"x": np.zeros(3)}), ("half.npz", {"types": np.zeros(3)})):
        np.savez(tmp_path / name, **arrays)
        assert not GlassArchiveReader.detect(str(tmp_path / name))
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "text.pickle").write_text("no pickle")
    for name in ("text.npz", "text.pickle", "missing.npz", "melt.xyz"):
        assert not GlassArchiveReader.detect(str(tmp_path / name))


def test_a_damaged_archive_is_named(tmp_path):
    path = tmp_path / "short.npz"
    np.savez(path, positions=np.zeros((4, 3)), types=np.zeros(3, dtype=np.int8), box=np.ones(3))
    with pytest.raises(Exception, match=r"short\.npz"):
        import_file(str(path), input_format=GlassArchiveReader).compute()
