"""Shared by the tests of the faces: the bundled melts, and drops of known shape."""

from __future__ import annotations

from importlib.resources import as_file, files

import numpy as np
import pytest

from phaseseg.families.segmentation import density


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
def densities(monkeypatch):
    """Counts how often a density is made."""
    calls = []
    real = density.density_field

    def counted(*args, **kwargs):
        calls.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(density, "density_field", counted)
    return calls
