"""What the tests of the family mobility share: frames, random networks, public data where they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from phaseseg import Frame
from phaseseg.checkpoint import Checkpoint
from phaseseg.families.mobility.settings import BapstConfig
from phaseseg.nn.model import member_weights

DATA = Path(os.environ.get("PHASESEG_DATA", "../shared/data"))
DEEPMIND = DATA / "deepmind_t044_s09"
CHECKPOINT = DEEPMIND / "t044_s09.ckpt"


def needs(folder):
    """Skip a test where public data, which are not part of this project, are absent."""
    return pytest.mark.skipif(
        not folder.is_dir(), reason=f"{folder.name} is not in the folder that PHASESEG_DATA names"
    )


def deepmind_system():
    """The system that accompanies the public checkpoint."""
    found = np.load(DEEPMIND / "system_T0.44.npz")
    names = ("A", "B")
    return Frame(found["positions"], found["box"], True, found["types"].astype(int), names, units="lj")


def liquid(n=125, density=1.2, seed=0, share=0.2, **more):
    """Jittered sites of a cubic lattice; a fifth of the particles are B."""
    rng = np.random.default_rng(seed)
    edge, m = (n / density) ** (1 / 3), int(np.ceil(n ** (1 / 3)))
    sites = np.stack(np.meshgrid(*[np.arange(m)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    sites = rng.permutation(sites)[:n] + 0.5 + rng.uniform(-0.25, 0.25, (n, 3))
    species = (np.arange(n) < share * n).astype(int)
    given = {"pbc": True, "species_names": ("A", "B"), "units": "lj"} | more
    return Frame(sites * edge / m, np.full(3, edge), species=species, **given)


def random_weights(config, seed=0, scale=0.8):
    rng = np.random.default_rng(seed)
    return {
        name: (rng.normal(size=shape) * (scale / np.sqrt(shape[-1]) if len(shape) > 1 else 0.1)).astype("f4")
        for name, shape in config.weight_shapes().items()
    }


def random_checkpoint(n_members=1, *, targets=None, standard=None, seed=0, scale=0.6, **settings):
    """A checkpoint of small networks with random weights."""
    settings = {"width": 8, "hidden": 12, "rounds": 3, "cutoff": 1.6} | settings
    targets = targets or [{"name": "propensity", "time": 10.0, "types": ["A", "B"]}]
    config = BapstConfig(**settings, outputs=len(targets))
    n = len(targets)
    return Checkpoint(
        "mobility", "mobility/random-v1",
        {
            "method": "bapst", "network": config.to_dict(), "species": ["A", "B"], "targets": targets,
            "standard": standard or {"shift": [[0.3, 0.5]] * n, "scale": [[0.1, 0.2]] * n},
        },
        member_weights(random_weights(config, seed + k, scale) for k in range(n_members)), units="lj",
        ranges={"number_density": [1.2, 1.2], "b_fraction": [0.2, 0.2], "temperature": [0.44, 0.44]},
    )  # fmt: skip
