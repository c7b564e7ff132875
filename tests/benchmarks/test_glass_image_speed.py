"""Pictures of configurations and the network on them against the naive ways, in the same run, in CPU time.

    pytest tests/benchmarks/test_glass_image_speed.py -s

The naive ways: points counted in disks for every pixel and particle, and PyTorch. Nothing is asserted about
time: the numbers are printed.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

import naive
from benchmarks.measure import MACHINE, cpu_time, scaled
from phaseseg import Frame
from phaseseg.families.liquid_glass.images import Plane, Style, draw, turned
from phaseseg.families.liquid_glass.inference import image_logits
from phaseseg.families.liquid_glass.settings import IMAGE_RECIPE, GlassConfig
from samples import picture_of

NETWORKS = scaled(
    {"small": {**IMAGE_RECIPE, "image_size": 64}},
    {
        "recipe": IMAGE_RECIPE,
        "60 σ in 250 pixels": {"architecture": "cnn", "image_size": 250, "pixels_per_sigma": 250 / 60},
    },
)
N, EDGE, SIZE = scaled((480, 20.0, 80), (4320, 60.0, 250))
IMAGES = scaled(4, 20)


def mixture(n=N, edge=EDGE):
    rng = np.random.default_rng(0)
    positions = np.c_[rng.random((n, 2)) * edge, np.zeros(n)]
    return Frame(
        positions, (edge, edge, 1), (True, True, False), rng.random(n) < 0.35, ("A", "B"), units="lj"
    )


def test_pictures(benchmark):
    """4320 particles in 60 x 60 σ; 250 pixels, and windows of the recipe."""
    frame = mixture()
    benchmark(lambda: picture_of(frame, SIZE))  # also compiles
    ours = cpu_time(lambda: picture_of(frame, SIZE))
    # A tenth of the particles and of the pixels: the naive time grows with the product of the two.
    edge, size = EDGE / 10**0.5, round(SIZE / 10**0.5)
    small = mixture(N // 10, edge)
    style = {name: getattr(GlassConfig, name) for name in ("radii", "colors", "background")}
    start = time.process_time()
    counted = naive.picture(small, size, edge, (0, 0), small.species, **style, samples=4)
    naive_time = (time.process_time() - start) * 100
    difference = np.abs(counted - picture_of(small, size)).mean()
    assert difference < 0.02
    print(f"\n{MACHINE}")
    print(
        f"picture of {SIZE} x {SIZE}: {ours * 1e3:.1f} ms, naive with 4 x 4 points a pixel {naive_time:.0f} s"
        f" (from a smaller one; mean difference {difference:.4f}), {naive_time / ours:,.0f} times"
    )
    config = GlassConfig(**IMAGE_RECIPE)
    plane, style = Plane.of(frame, frame.species), Style.of(config)
    corners, turns = np.random.default_rng(0).random((IMAGES, 2)) * EDGE, np.arange(IMAGES) % 8
    drawn = cpu_time(lambda: turned(draw(plane, corners, config.image_size, style), turns)) / IMAGES
    print(f"window of {config.image_edge:.0f} σ in {config.image_size} pixels: {drawn * 1e3:.2f} ms")


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name):
    torch = pytest.importorskip("torch")
    from phaseseg.families.liquid_glass.network import ImageNetwork

    torch.set_num_threads(1)
    config = GlassConfig(**NETWORKS[name])
    network = ImageNetwork(config)
    optimizer = torch.optim.Adam(network.parameters())
    images = np.random.default_rng(0).random((IMAGES, 3, *[config.image_size] * 2), dtype=np.float32)
    there, label = torch.from_numpy(images), torch.arange(IMAGES) % 2.0

    def train():
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(network(there), label).backward()
        optimizer.step()

    def predict():
        with torch.inference_mode():
            return network(there).numpy()

    step = cpu_time(train) / IMAGES
    network.eval()
    weights = {key: values.numpy() for key, values in network.state_dict().items()}
    theirs = cpu_time(predict) / IMAGES
    ours = cpu_time(lambda: image_logits(weights, images, config)) / IMAGES
    expected = predict()
    error = np.abs(image_logits(weights, images, config) - expected).max() / np.abs(expected).max()
    print(
        f"\n{name}: {config.n_parameters:,} parameters; training {500 * step:.1f} s for 500 images; logits "
        f"{ours * 1e3:.2f} ms an image, PyTorch {theirs * 1e3:.2f} ms, {theirs / ours:.1f} times; "
        f"error {error:.0e}"
    )
    assert error < 1e-5
