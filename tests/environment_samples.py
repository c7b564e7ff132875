"""Frames and checkpoints that tests of atomic environments share."""

from __future__ import annotations

import numpy as np

from phaseseg.checkpoint import Checkpoint
from phaseseg.families.environments.contrast import Contrast
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.learn import described, fit_environments
from phaseseg.families.environments.meagraph import Meagraph
from phaseseg.families.environments.projection import fit_projection
from phaseseg.families.environments.settings import ContrastConfig
from phaseseg.frame import Frame

BASES = {
    "sc": [(0, 0, 0)],
    "bcc": [(0, 0, 0), (0.5, 0.5, 0.5)],
    "diamond": [
        (x + s, y + s, z + s)
        for x, y, z in [(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
        for s in (0, 0.25)
    ],
}
EDGES = {"sc": 2.6, "bcc": 3.0, "diamond": 5.4}
"""Å; distances of neighbors from 2.3 to 2.6 Å."""
TIMES = {"sc": 4, "bcc": 3, "diamond": 2}


def crystal(kind, *, noise=0.04, seed=0, name="W", **more):
    """A small periodic crystal with Gaussian displacements (Å)."""
    rng = np.random.default_rng(seed)
    edge, times = EDGES[kind], TIMES[kind]
    cells = np.stack(np.meshgrid(*[np.arange(times)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    positions = ((cells + np.array(BASES[kind])) * edge).reshape(-1, 3)
    positions = positions + rng.normal(0, noise, positions.shape)
    return Frame(positions, [edge * times] * 3, True, [name] * len(positions), **more)


def run_of_crystals(*, seed=0, name="W"):
    """Frames of three kinds of crystals, with 192, 128 and 108 atoms in all, and which kind each is."""
    kinds = ["sc", "bcc", "diamond", "sc", "bcc", "diamond", "sc"]
    frames = [
        crystal(kind, seed=seed + k, name=name, index=k, source=f"run.xyz, frame {k}")
        for k, kind in enumerate(kinds)
    ]
    return frames, kinds


def fitted_checkpoint(method="kmeans", **options):
    """A checkpoint fitted to three kinds of crystals."""
    usual = {"communities": {}, "tree": {"smallest": 10}, "threshold": {"distance": 6.5}}
    options = options or usual.get(method, {"n_clusters": 3})
    return fit_environments(run_of_crystals()[0], name="environments/grains-v1", method=method, **options)


def embedding_checkpoint():
    """A checkpoint with an embedding of random weights."""
    descriptor = PowerSpectrum(("W",))
    rows = np.concatenate([descriptor(frame) for frame in run_of_crystals()[0]])
    rng, config = np.random.default_rng(0), ContrastConfig(5, 8, 3)
    weights = {name: rng.normal(size=shape).astype("f4") for name, shape in config.weight_shapes().items()}
    settings, arrays = Contrast(fit_projection(rows, 5), config, weights).to_parts()
    return Checkpoint(
        "environments", "environments/embedding-v1", {**settings, "descriptor": described(descriptor)}, arrays
    )


def network_checkpoint(rate=0.3, low=0.8):
    """A checkpoint with the network MEAGraph of random weights, and with the norms of the crystals."""
    descriptor = PowerSpectrum(("W",))
    rows = np.concatenate([descriptor(frame) for frame in run_of_crystals()[0]])
    network = Meagraph.untrained(descriptor.n_features, widths=(16, 8), low=low)
    settings, weights = network.measured(rows, rate).to_parts()
    config = {
        **settings, "descriptor": described(descriptor),
        "options": {"method": "meagraph", "cutoff": 5.0, "n_max": 4, "l_max": 4},
    }  # fmt: skip
    return Checkpoint("environments", "environments/random-v1", config, weights)
