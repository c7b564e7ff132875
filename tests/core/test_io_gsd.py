"""GSD files: types, boxes, steps, what is said without the package."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from phaseseg.families.liquid_glass.structural_metrics import glass_metrics
from phaseseg.io import InputError, read_frames

hoomd = pytest.importorskip("gsd.hoomd")


def gsd_frame(seed, n=40, box=(9, 8, 7, 0.1, 0.2, -0.3), types=("A", "B")):
    rng = np.random.default_rng(seed)
    frame = hoomd.Frame()
    frame.configuration.step, frame.configuration.box = 1000 * seed, list(box)
    lx, ly, lz, xy, xz, yz = box
    cell = np.array([[lx, 0, 0], [xy * ly, ly, 0], [xz * lz, yz * lz, lz]])
    frame.particles.N, frame.particles.types = n, list(types)
    frame.particles.typeid = rng.integers(0, len(types), n)
    frame.particles.position = (rng.random((n, 3)) - 0.5) @ cell
    frame.log["md/kinetic_temperature"] = [0.5 + seed]
    frame.log["particles/q6"] = rng.random(n)
    return frame


@pytest.fixture
def path(tmp_path):
    with hoomd.open(str(tmp_path / "run.gsd"), mode="w") as file:
        for seed in range(4):
            file.append(gsd_frame(seed))
    return tmp_path / "run.gsd"


def test_frames(path):
    for seed, frame in enumerate(read_frames(path, dt=0.005)):
        own = gsd_frame(seed)
        np.testing.assert_allclose(frame.positions, own.particles.position, atol=1e-6)
        np.testing.assert_array_equal(frame.species, own.particles.typeid)
        np.testing.assert_allclose(frame.cell, [[9, 0, 0], [0.8, 8, 0], [1.4, -2.1, 7]], atol=1e-6)
        inside = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)
        assert inside.min() >= 0 and inside.max() <= 1
        assert (frame.species_names, frame.units, frame.timestep) == (("A", "B"), "lj", 1000 * seed)
        assert (frame.time, frame.info) == (5.0 * seed, {"md/kinetic_temperature": 0.5 + seed})
        assert frame.source == f"run.gsd, frame {seed}"


def test_slices_types_and_fields(path):
    assert [frame.index for frame in read_frames(path, frames=slice(-3, None, 2))] == [1, 3]
    [frame] = read_frames(path, types={0: "Ni", 1: "P"}, frames=slice(1), fields=True)
    assert frame.species_names == ("Ni", "P")
    assert set(frame.fields) == {"mass", "charge", "diameter", "velocity"}
    assert frame.fields["velocity"].shape == (40, 3)
    path.rename(path.with_name("run"))  # the first bytes show the format
    assert len(list(read_frames(path.with_name("run"), names="A=X"))) == 4


def test_two_dimensions_and_frames_without_particles(tmp_path):
    flat = gsd_frame(1, box=(9, 8, 1, 0.5, 0, 0))
    flat.configuration.dimensions = 2
    flat.particles.position[:, 2] = 0
    for lz in (0, 1):
        flat.configuration.box[2] = lz
        with hoomd.open(str(tmp_path / "flat.gsd"), mode="w") as file:
            file.append(flat)
            file.append(gsd_frame(2, n=0))
        one, none = read_frames(tmp_path / "flat.gsd")
        assert (one.n_dimensions, len(none)) == (2, 0)
        assert glass_metrics(one, b="B")["n_bb_edges"] >= 0


def test_damaged_and_compressed_files(path, tmp_path):
    content = path.read_bytes()
    for cut in (100, 300, len(content) // 2):
        (tmp_path / "cut.gsd").write_bytes(content[:cut])
        with pytest.raises(InputError, match=r"cut\.gsd"):
            list(read_frames(tmp_path / "cut.gsd"))
    (tmp_path / "text.gsd").write_text("no gsd")
    with pytest.raises(InputError, match=r"text\.gsd: the file cannot be read as GSD"):
        list(read_frames(tmp_path / "text.gsd"))
    import gzip

    (tmp_path / "run.gsd.gz").write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match="Decompress it first"):
        list(read_frames(tmp_path / "run.gsd.gz"))


def test_without_the_package(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gsd", None)
    monkeypatch.setitem(sys.modules, "gsd.fl", None)
    with pytest.raises(ImportError, match=r"pip install 'ovito-phaseseg\[gsd\]'"):
        read_frames(path)


def test_a_damaged_number_of_particles_takes_no_memory(tmp_path):
    with hoomd.open(str(tmp_path / "run.gsd"), mode="w") as file:
        file.append(gsd_frame(0, n=567))
    content, number = (tmp_path / "run.gsd").read_bytes(), (567).to_bytes(4, "little")
    places = [place for place in range(len(content)) if content.startswith(number, place)]
    said = []
    for place in places:  # the number itself, and the lengths of the chunks
        (tmp_path / "run.gsd").write_bytes(
            content[:place] + (2**31).to_bytes(4, "little") + content[place + 4 :]
        )
        with pytest.raises(InputError) as caught:
            list(read_frames(tmp_path / "run.gsd", fields=True))
        said.append(str(caught.value))
    assert any("2147483648 particles are announced" in text for text in said)
