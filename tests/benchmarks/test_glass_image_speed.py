"""Pictures of configurations and the network on them beside the naive ways, in the same run, in CPU time.

    pytest tests/benchmarks/test_glass_image_speed.py -s

The naive ways: points counted in disks for every pixel and particle, and PyTorch. Nothing is asserted about
time: the numbers are printed.
"""

from __future__ import annotations

import platform
import time

import numpy as np
import pytest

import naive
from phaseseg import Frame
from phaseseg.families.liquid_glass.image_inference import image_logits
from phaseseg.families.liquid_glass.images import Plane, Style, draw, render, turned
from phaseseg.families.liquid_glass.settings import IMAGE_RECIPE, GlassConfig

NETWORKS = {
    "recipe": IMAGE_RECIPE,
    "60 σ in 250 pixels": {"architecture": "cnn", "image_size": 250, "pixels_per_sigma": 250 / 60},
}


def cpu_time(function, repeats=3):
    """Least CPU time of some calls, seconds; all threads count."""
    function()  # compiles
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def mixture(n=4320, edge=60.0):
    rng = np.random.default_rng(0)
    positions = np.c_[rng.random((n, 2)) * edge, np.zeros(n)]
    return Frame(
        positions, (edge, edge, 1), (True, True, False), rng.random(n) < 0.35, ("A", "B"), units="lj"
    )


def test_pictures(benchmark):
    """4320 particles in 60 x 60 σ; 250 pixels, and windows of the recipe."""
    frame, size = mixture(), 250
    benchmark.pedantic(lambda: render(frame, size), rounds=5, warmup_rounds=1)
    ours = cpu_time(lambda: render(frame, size))
    # A tenth of the particles and of the pixels: the naive time grows with the product of the two.
    small = mixture(432, 60 / 10**0.5)
    style = {name: getattr(GlassConfig, name) for name in ("radii", "colors", "background")}
    start = time.process_time()
    counted = naive.picture(small, 79, 60 / 10**0.5, (0, 0), small.species, **style, samples=4)
    naive_time = (time.process_time() - start) * 100
    difference = np.abs(counted - render(small, 79)).mean()
    print(f"\n{platform.machine()}, Python {platform.python_version()}; CPU time")
    print(
        f"picture of 250 x 250: {ours * 1e3:.1f} ms, naive with 4 x 4 points a pixel {naive_time:.0f} s "
        f"(from a smaller one; mean difference {difference:.4f}), {naive_time / ours:,.0f} times"
    )
    config = GlassConfig(**IMAGE_RECIPE)
    plane, style = Plane.of(frame, frame.species), Style.of_config(config)
    corners = np.random.default_rng(0).random((20, 2)) * 60
    drawn = cpu_time(lambda: turned(draw(plane, corners, config.image_size, style), np.arange(20) % 8)) / 20
    print(f"window of {config.image_edge:.0f} σ in {config.image_size} pixels: {drawn * 1e3:.2f} ms")


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name):
    torch = pytest.importorskip("torch")
    from phaseseg.families.liquid_glass.image_network import ImageNetwork

    torch.set_num_threads(1)
    config = GlassConfig(**NETWORKS[name])
    network = ImageNetwork(config)
    optimizer = torch.optim.Adam(network.parameters())
    images = np.random.default_rng(0).random((20, 3, config.image_size, config.image_size), dtype=np.float32)
    there, label = torch.from_numpy(images), torch.arange(20) % 2.0

    def train():
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(network(there), label).backward()
        optimizer.step()

    def predict():
        with torch.inference_mode():
            return network(there).numpy()

    step = cpu_time(train) / 20
    network.eval()
    weights = {key: values.numpy() for key, values in network.state_dict().items()}
    theirs, ours = cpu_time(predict) / 20, cpu_time(lambda: image_logits(weights, images, config)) / 20
    expected = predict()
    error = np.abs(image_logits(weights, images, config) - expected).max() / np.abs(expected).max()
    print(
        f"\n{name}: {config.n_parameters:,} parameters; training {500 * step:.1f} s for 500 images; logits "
        f"{ours * 1e3:.2f} ms an image, PyTorch {theirs * 1e3:.2f} ms, {theirs / ours:.1f} times; "
        f"error {error:.0e}"
    )
    assert error < 1e-5
