"""Shared by the tests of the faces: the bundled melts, drops of known shape, mixtures that may be glasses."""

from __future__ import annotations

from functools import wraps
from importlib.resources import as_file, files

import numpy as np
import pytest

from phaseseg import Frame, write_frames
from phaseseg.checkpoint import Checkpoint, save_checkpoint
from phaseseg.families import FAMILIES, load
from phaseseg.families.liquid_glass import structural_metrics
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.families.segmentation.labels import density, weak_labels


@pytest.fixture(scope="session")
def demo():
    """Path of a bundled trajectory: `demo("melt_small_3000K")`."""
    with as_file(files("phaseseg") / "demo") as folder:
        yield lambda name: str(folder / f"{name}.dump.gz")


def drops(centers=((0.5, 0.5, 0.5),), radii=(9.0,), cell=(30.0, 30.0, 30.0), seed=0):
    """Positions, symbols and cell of a melt: spheres of iron in an oxide, nearly unmixed.

    Jittered sites, 2.3 Å apart: a liquid has no such voids as random points have. Centers are
    fractions of the cell.
    """
    rng = np.random.default_rng(seed)
    cell = np.diag(cell) if np.ndim(cell) == 1 else np.asarray(cell)
    counts = (np.linalg.norm(cell, axis=1) / 2.3).astype(int)
    sites = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3)
    fractions = (sites + rng.uniform(-0.3, 0.3, sites.shape) + 0.5) / counts
    inside = np.zeros(len(fractions), dtype=bool)
    for center, radius in zip(centers, radii, strict=True):
        apart = fractions - np.asarray(center)
        apart -= np.rint(apart)
        inside |= np.linalg.norm(apart @ cell, axis=1) < radius
    iron = rng.random(len(fractions)) < np.where(inside, 0.95, 0.03)
    return fractions @ cell, np.where(iron, "Fe", "O"), cell


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


def mixture(*, n_dimensions=2, n_atoms=300, seed=0, jitter=0.4, **options):
    """A Frame of jittered sites, 35 % of them B, about 1.2 particles per σ^2 or σ^3; σ, not Å."""
    rng = np.random.default_rng(seed)
    n_rows = round(n_atoms ** (1 / n_dimensions))
    sites = np.stack(np.meshgrid(*[np.arange(n_rows)] * n_dimensions, indexing="ij"), axis=-1)
    sites = sites.reshape(-1, n_dimensions) + rng.uniform(
        -jitter, jitter, (n_rows**n_dimensions, n_dimensions)
    )
    spacing = 1.2 ** (-1 / n_dimensions)
    positions = np.zeros((len(sites), 3))
    positions[:, :n_dimensions] = (sites + 0.5) * spacing
    edge = n_rows * spacing
    cell = [edge, edge, edge if n_dimensions == 3 else 1.0]
    pbc = [True, True, n_dimensions == 3]
    species = rng.permutation(np.where(np.arange(len(sites)) < 0.65 * len(sites), "A", "B"))
    return Frame(positions, cell, pbc, species, units="lj", **options)


@pytest.fixture(scope="session")
def make_mixture():
    return mixture


@pytest.fixture(scope="session")
def run_file(tmp_path_factory):
    """A run of five frames of a 2D mixture as it is cooled, with temperatures in the comment lines."""
    path = tmp_path_factory.mktemp("runs") / "cooled.xyz"
    frames = [
        mixture(
            seed=number,
            jitter=0.1 + 0.2 * temperature,
            info={"temperature": temperature, "kinetic_temperature": round(1.01 * temperature, 6)},
        )
        for number, temperature in enumerate((2.0, 1.0, 0.5, 0.3, 0.05))
    ]
    write_frames(path, [(frame, None) for frame in frames])
    return str(path)


def glass_checkpoint(name="liquid_glass/random-v1", *, n_members=2, seed=0, **settings):
    """Networks of random weights: they know nothing, and differ from particle to particle."""
    rng = np.random.default_rng(seed)
    small = {} if settings.get("architecture") == "cnn" else {"hidden": 8}
    config = GlassConfig(**(small | settings))
    weights = {
        f"member{member}.{key}": (1.5 * rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)
        for member in range(n_members)
        for key, shape in config.weight_shapes().items()
    }
    return Checkpoint(
        "liquid_glass", name, {"network": config.to_dict(), "temperature_scaling": 1.5}, weights,
        units="lj", ranges={"number_density": [1.1, 1.3], "b_fraction": [0.3, 0.4]},
    )  # fmt: skip


@pytest.fixture(scope="session")
def make_glass_checkpoint():
    return glass_checkpoint


@pytest.fixture(scope="session")
def glass_file(tmp_path_factory):
    """A file with two random networks with attention, in two dimensions."""
    path = tmp_path_factory.mktemp("checkpoints") / "random-v1.safetensors"
    save_checkpoint(glass_checkpoint(attention=True), path)
    return str(path)
