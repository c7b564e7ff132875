"""Shared by all tests: the bundled melts, the shared data where there are any, frames of known shape."""

from __future__ import annotations

import os
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from phaseseg.io import read_frames
from phaseseg.testing import slab, sphere

TYPES = ("Fe", "Mg", "Si", "O", "N")


def bundled(name):
    """All frames of a bundled dump: `melt_small_3000K`."""
    with as_file(files("phaseseg") / "demo" / f"{name}.dump.gz") as path:
        return list(read_frames(path, types=TYPES))


@pytest.fixture(scope="session")
def large():
    """The bundled 33,280-atom frames by temperature."""
    return {temperature: bundled(f"melt_large_{temperature}K")[-1] for temperature in (3000, 4000)}


@pytest.fixture(scope="session")
def small():
    """The bundled 520-atom trajectories by temperature."""
    return {temperature: bundled(f"melt_small_{temperature}K") for temperature in (3000, 4000)}


@pytest.fixture(scope="session")
def melt_data():
    """`melt_data("control_20000K")`: the frames of a trajectory that is too large to be bundled.

    They are looked for in the folder `melt` of `PHASESEG_DATA`, else of `../shared/data`.
    """
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("PHASESEG_DATA", root.parent / "shared" / "data")) / "melt"

    def frames(name, **options):
        path = folder / f"{name}.dump.gz"
        if not path.is_file():
            pytest.skip(f"{name} is not bundled; let PHASESEG_DATA name the folder with melt/{path.name}")
        return read_frames(path, types=TYPES, **options)

    return frames


@pytest.fixture(scope="session")
def slab_frame():
    """A layer of Fe, x from 10.3 to 27.8 Å in a box of 40 x 18 x 18 Å; interface of s = 1 Å."""
    return slab()


@pytest.fixture(scope="session")
def sphere_frame():
    """A droplet of Fe of radius 8 Å in a cube of 30 Å; interface of s = 1 Å."""
    return sphere()
