"""From pictures to logits of the convolutional network: float32 on one core, without torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import jit
from phaseseg.compiled.simd import WIDTH, load, splat, spread, store
from phaseseg.families.liquid_glass.settings import GlassConfig

Floats = NDArray[np.float32]

# Lanes read so far beyond the last number of an image.
_SPARE = 3 * WIDTH


def image_logits(weights: Mapping[str, Floats], images: Floats, config: GlassConfig) -> Floats:
    """Logits of glass, (n,) float32, of images (n, 3, size, size) float32: what `ImageNetwork` gives.

    weights : of one member, with the names of `config.weight_shapes()`

    Raises
    ------
    ValueError
        For images of another size than the network takes.
    """
    n, size = len(images), images.shape[-1]
    if images.shape[1:] != (3, size, size) or (size != config.image_size and not config.global_average):
        raise ValueError(
            f"the network takes images of {config.image_size} x {config.image_size} pixels in three colors, "
            f"found an array of shape {images.shape}."
        )
    shapes, edge = [], size
    for number, kernel in enumerate(config.kernel_sizes, start=1):
        edge = (edge - kernel + 1) // config.pool
        shapes.append((len(weights[f"convolution{number}.bias"]), edge))
    if edge < 1:
        raise ValueError(f"images of {size} x {size} pixels are too small for the kernels of the network.")
    layers = [_layer(weights, name, i) for i, name in enumerate(("convolution1", "convolution2", "dense"), 1)]
    (first, first_bias), (second, second_bias), (matrix, bias) = layers
    taps = [_taps(first), _taps(second)]
    image = np.zeros(images[0].size + _SPARE if n else _SPARE, dtype=np.float32)
    hidden = np.zeros(shapes[0][0] * shapes[0][1] ** 2 + _SPARE, dtype=np.float32)
    found = np.empty((n, shapes[1][0] * edge * edge), dtype=np.float32)
    line = np.empty(2 * (size + 2 * WIDTH), dtype=np.float32)
    for k in range(n):
        image[: images[k].size] = images[k].ravel()
        _convolve(
            image, size, taps[0], first_bias, config.kernel_sizes[0], config.pool, line, hidden,
        )  # fmt: skip
        _convolve(
            hidden, shapes[0][1], taps[1], second_bias, config.kernel_sizes[1], config.pool, line, found[k],
        )  # fmt: skip
    if config.global_average:
        found = found.reshape(n, shapes[1][0], edge * edge).mean(axis=2)
    dense = np.maximum(found @ matrix.T + bias, 0)
    logits: Floats = (dense @ weights["output.weight"].T + weights["output.bias"])[:, 0]
    return logits


def _layer(weights: Mapping[str, Floats], name: str, number: int) -> tuple[Floats, Floats]:
    """Weight and bias of a layer with the normalization, if there is one, in them."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if f"normalization{number}.mean" not in weights:
        return weight, bias
    mean, scale = (weights[f"normalization{number}.{part}"] for part in ("mean", "scale"))
    if name == "dense":  # normalized is what goes in, and not what comes out
        return weight * scale, bias - weight @ (mean * scale)
    return weight * scale[:, None, None, None], (bias - mean) * scale


def _taps(weight: Floats) -> Floats:
    """Flat (pairs of outputs, inputs, rows, columns, 2); an odd number of outputs gets one of zeros."""
    outputs = len(weight)
    paired = np.zeros((outputs + outputs % 2, *weight.shape[1:]), dtype=np.float32)
    paired[:outputs] = weight
    pairs = paired.reshape(-1, 2, *weight.shape[1:])
    return np.ascontiguousarray(np.moveaxis(pairs, 1, -1)).ravel()


@jit
def _convolve(image, size, taps, bias, kernel, pool, line, out):
    """Convolution without padding, rectifier, mean of each `pool` x `pool` outputs.

    image : flat (inputs, size, size), and a few numbers more; taps : as `_taps` gives them
    line : room for two lines of outputs, each with `2 * WIDTH` to spare; out : flat (outputs, edge, edge)
    """
    outputs, edge = bias.size, (size - kernel + 1) // pool
    inputs = taps.size // ((outputs + 1) // 2 * 2 * kernel * kernel)
    stride = line.size // 2
    zero, share = np.float32(0), np.float32(1 / (pool * pool))
    for pair in range((outputs + 1) // 2):
        for row in range(edge):
            for part in range(pool):
                # Two outputs at 2 * WIDTH places are in registers while all inputs are summed.
                for x in range(0, edge * pool, 2 * WIDTH):
                    a, b, c, d = splat(zero), splat(zero), splat(zero), splat(zero)
                    tap = pair * inputs * kernel * kernel * 2
                    for i in range(inputs):
                        for ky in range(kernel):
                            at = (i * size + row * pool + part + ky) * size + x
                            for kx in range(kernel):
                                left, right = load(image, at + kx), load(image, at + kx + WIDTH)
                                first, second = spread(taps, tap), spread(taps, tap + 1)
                                a = a + first * left
                                b = b + first * right
                                c = c + second * left
                                d = d + second * right
                                tap += 2
                    store(line, x, a)
                    store(line, x + WIDTH, b)
                    store(line, stride + x, c)
                    store(line, stride + x + WIDTH, d)
                for second in range(2):
                    o = 2 * pair + second
                    if o == outputs:
                        continue
                    for column in range(edge):
                        mean = zero
                        for k in range(pool):
                            mean += max(line[second * stride + column * pool + k] + bias[o], zero)
                        to = (o * edge + row) * edge + column
                        out[to] = mean * share + (out[to] if part > 0 else zero)
