"""Shared by the tests of the faces: the bundled melts, drops of known shape, mixtures that may be glasses."""

from __future__ import annotations

from functools import wraps
from importlib.resources import as_file, files

import pytest

from mobility_samples import random_checkpoint as random_mobility_checkpoint
from phaseseg import Frame, write_frames
from phaseseg.checkpoint import save_checkpoint
from phaseseg.families import FAMILIES, load
from phaseseg.families.liquid_glass import structural_metrics
from phaseseg.families.segmentation.labels import density, weak_labels
from samples import cooled, drops, random_glass_checkpoint


@pytest.fixture(scope="session")
def demo():
    """Path of a bundled trajectory: `demo("melt_small_3000K")`."""
    with as_file(files("phaseseg") / "demo") as folder:
        yield lambda name: str(folder / f"{name}.dump.gz")


@pytest.fixture(scope="session")
def make_drops():
    return drops


@pytest.fixture
def runs(monkeypatch):
    """The frames for which an expensive half has run: a network of any family, a density, metrics."""
    frames = []

    def counted(owner, name):
        real = getattr(owner, name)

        @wraps(real)
        def count(*args, **options):
            frames.append(next(argument for argument in args if isinstance(argument, Frame)))
            return real(*args, **options)

        monkeypatch.setattr(owner, name, count)

    for family in FAMILIES.values():
        counted(load(family.model), "run")
    for module in (density, weak_labels):
        counted(module, "density_field")
    counted(structural_metrics, "glass_metrics")
    return frames


@pytest.fixture(scope="session")
def pair_file(tmp_path_factory, make_checkpoint):
    """A file with an ensemble of two networks for Fe and O, which know the boundary, too."""
    path = tmp_path_factory.mktemp("checkpoints") / "pair-v1.safetensors"
    checkpoint = make_checkpoint("segmentation/pair-v1", n_members=2, species=("Fe", "O"), outputs=3)
    save_checkpoint(checkpoint, path)
    return str(path)


@pytest.fixture(scope="session")
def run_file(tmp_path_factory):
    """A run of five frames of a 2D mixture as it is cooled, with temperatures in the comment lines."""
    path = tmp_path_factory.mktemp("runs") / "cooled.xyz"
    frames = cooled(temperatures=(2.0, 1.0, 0.5, 0.3, 0.05), n=289)
    for frame in frames:
        frame.info["kinetic_temperature"] = round(1.01 * frame.info["temperature"], 6)
    write_frames(path, [(frame, None) for frame in frames])
    return str(path)


@pytest.fixture(scope="session")
def mobility_file(tmp_path_factory):
    """A file with two random networks that predict mobility from thermal positions."""
    path = tmp_path_factory.mktemp("mobility") / "random-v1.safetensors"
    save_checkpoint(random_mobility_checkpoint(n_members=2), path)
    return str(path)


@pytest.fixture(scope="session")
def glass_file(tmp_path_factory):
    """A file with two random networks with attention, in two dimensions."""
    path = tmp_path_factory.mktemp("checkpoints") / "random-v1.safetensors"
    save_checkpoint(random_glass_checkpoint(attention=True, n_members=2), path)
    return str(path)
