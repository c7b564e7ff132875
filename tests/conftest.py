"""Shared by all tests: the bundled melts, the shared data where there are any, frames of known shape."""

from __future__ import annotations

import os
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pytest

from phaseseg.checkpoint import Checkpoint, save_checkpoint
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.families.segmentation.settings import NetworkConfig
from phaseseg.frame import Frame
from phaseseg.io import read_frames
from phaseseg.testing import slab, sphere

TYPES = ("Fe", "Mg", "Si", "O", "N")


HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """What measures time and what runs the pages is slow as a whole."""
    for item in items:
        if {HERE / "benchmarks", HERE / "docs"} & set(item.path.parents):
            item.add_marker("slow")


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
def cooled_runs():
    """The bundled runs of a glass former, 21 configurations each from hot to cold, by name."""
    folder = files("phaseseg") / "demo"
    names = [f"glass_ka2d_s{seed}" for seed in (901, 902, 903, 904)]
    runs = {}
    for name in names:
        with as_file(folder / f"{name}.xyz.gz") as path:
            runs[name] = list(read_frames(path, units="lj"))
    return runs


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


def share_checkpoint(
    name="segmentation/share-v1", *, n_members=1, species=TYPES, target=("Fe",), outputs=2, cut=0.45,
    slope=8.0, spread=0.02, temperature=0.4, units="metal", architecture="gcn",
):  # fmt: skip
    """A network that knows what it does: its score is slope * (share of the target within 6 Å - cut), Å.

    Members differ by `spread` in their cuts; with three outputs the boundary is likely where the score is
    small. What the message-passing layer adds is random and small.
    """
    config = NetworkConfig(
        tuple(species), tuple(target), tuple(name for name in species if name == "Mg"), hidden=4, layers=1,
        readout=4, outputs=outputs, architecture=architecture, heads=2,
    )  # fmt: skip
    n, rng = config.n_features, np.random.default_rng(0)
    high = np.array([1.0] * len(species) + [90.0, 6.0, 8.0, 1.0, 60.0], dtype=np.float32)
    weights = {
        "feature.center": np.zeros(n), "feature.scale": np.ones(n), "feature.low": np.zeros(n),
        "feature.high": high,
    }  # fmt: skip
    for member in range(n_members):
        own = {key: 1e-5 * rng.normal(size=shape) for key, shape in config.weight_shapes().items()}
        at = cut + spread * (member - (n_members - 1) / 2)
        first, second = np.zeros(own["readout1.weight"].shape), np.zeros(own["readout2.weight"].shape)
        first += own["readout1.weight"]
        first[0, len(species) + 3] += slope
        first[1, len(species) + 3] -= slope
        second[1, 0], second[0, 1] = 1, 1
        own["readout1.weight"], own["readout2.weight"] = first, second
        own["readout1.bias"] = np.array([-slope * at, slope * at, 0, 0])
        own["readout2.bias"] = np.zeros(outputs)
        if outputs == 3:
            own["readout2.bias"][2] = 1.0
        weights |= {f"member{member}.{key}": values for key, values in own.items()}
    settings = {
        "network": config.to_dict(),
        "score": {
            "bound": 3.0,
            "scale": [1.0] * n_members,
            "offset": [0.0] * n_members,
            "temperature": temperature,
        },
        "interface": {"sigma": 1.0, "voxel": 0.75},
        "label_rule": LabelRule(tuple(target), sigma=2.0, threshold=0.04).to_dict(),
        "ranges": {"number_density": [0.09, 0.12]},
    }
    weights = {key: np.asarray(values, dtype=np.float32) for key, values in weights.items()}
    return Checkpoint("segmentation", name, settings, weights, units=units)


@pytest.fixture(scope="session")
def make_checkpoint():
    """`make_checkpoint(n_members=3)`: a small network whose score is known; see `share_checkpoint`."""
    return share_checkpoint


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory):
    """A file with an ensemble of three such networks for Fe, Mg, Si, O, N."""
    path = tmp_path_factory.mktemp("checkpoints") / "share-v1.safetensors"
    save_checkpoint(share_checkpoint(n_members=3), path)
    return path


def random_glass_checkpoint(
    name="liquid_glass/random-v1", *, n_members=1, temperature=1.0, number_density=(1.1, 1.3),
    b_fraction=(0.3, 0.4), attention_threshold=None, **config,
):  # fmt: skip
    """A network that tells liquid from glass as dice do; `config` are settings of `GlassConfig`.

    Weights of attention are smaller than the others: what they give is an exponential.
    """
    network = GlassConfig(**{"hidden": 12, **config})
    weights = {}
    for member in range(n_members):
        rng = np.random.default_rng(member)
        for key, shape in network.weight_shapes().items():
            fans = np.prod(shape[1:]) if len(shape) > 1 else 100
            size = (0.4 if key.startswith("attention") else 1.2) / np.sqrt(fans)
            weights[f"member{member}.{key}"] = rng.normal(0, size, shape).astype(np.float32)
    settings = {"network": network.to_dict(), "temperature_scaling": temperature}
    if attention_threshold is not None:
        settings["attention_threshold"] = attention_threshold
    ranges = {"number_density": list(number_density), "b_fraction": list(b_fraction)}
    return Checkpoint("liquid_glass", name, settings, weights, units="lj", ranges=ranges)


@pytest.fixture(scope="session")
def make_glass_checkpoint():
    """`make_glass_checkpoint(attention=True, n_members=2)`; see `random_glass_checkpoint`."""
    return random_glass_checkpoint


def disordered_mixture(n=400, dimensions=2, *, density=1.2, share=0.35, seed=0, pbc=None, edges=None):
    """Particles A and B somewhere in a square or cube, reduced units, none much nearer than the others.

    edges : of the cell in place of the density, as many as there are dimensions
    """
    rng = np.random.default_rng(seed)
    lengths = np.full(dimensions, (n / density) ** (1 / dimensions)) if edges is None else np.array(edges)
    m = int(np.ceil(n ** (1 / dimensions) - 1e-9))
    sites = np.stack(np.meshgrid(*[np.arange(m)] * dimensions, indexing="ij"), -1).reshape(-1, dimensions)
    sites = sites[rng.permutation(len(sites))[:n]]
    positions = np.zeros((n, 3))
    positions[:, :dimensions] = (sites + rng.uniform(0.1, 0.9, sites.shape)) / m * lengths
    cell = np.ones(3)
    cell[:dimensions] = lengths
    species = rng.permutation((np.arange(n) < share * n).astype(int))
    pbc = (True, True, dimensions == 3) if pbc is None else pbc
    return Frame(positions, cell, pbc, species, ("A", "B"), units="lj")


@pytest.fixture(scope="session")
def make_disorder():
    """`make_disorder(400, dimensions=3, seed=1)`; see `disordered_mixture`."""
    return disordered_mixture
