"""The functions of `vectors` with one number in place of a vector, without LLVM IR: slower, the same results.

Their docstrings are those of `vectors`.
"""

import numpy as np

from phaseseg.compiled.jit import jit

WIDTH = 1
HAS_AVX512 = False


load = spread = jit(lambda data, index: data.flat[index])
splat = jit(lambda scalar: np.float32(scalar))
total = jit(lambda a: a)
greater = jit(lambda x, y: x if x > y else y)
where_at_most = jit(lambda x, y, z: z if x <= y else np.float32(0))
bits_at_most = jit(lambda x, y: np.uint64(x <= y))
root = jit(lambda a: np.sqrt(a))
whole = jit(lambda a: np.floor(a))
fetch = jit(lambda data, index: None)
power_of_two = jit(lambda a: np.int32((np.int32(a) + 127) << 23).view(np.float32))
count_bits = jit(lambda bits: np.int64(bits))


@jit
def store(data, index, a):
    data.flat[index] = a


@jit
def count_up(out, at, first, step):
    out.flat[at] = first


@jit
def list_bits(bits, first, out, n):
    out[n] = first
    return n + np.int64(bits)


@jit
def append_lanes(bits, a, out, n):
    if bits:
        out.flat[n] = a


@jit
def add_product(
    x, x_at, stride, step, inputs, weight, columns, first, base, base_at, base_stride, out, at, length,
    rectify, rows, blocks,
):  # fmt: skip
    for r in range(len(rows)):
        for c in range(len(blocks)):
            sum_ = base.flat[base_at + r * base_stride + c]
            for k in range(inputs):
                sum_ += x.flat[x_at + r * stride + k * step] * weight.flat[first + k * columns + c]
            out.flat[at + r * length + c] = np.float32(0) if rectify and sum_ < 0 else sum_


@jit
def _head_of(column, n_heads, n_channels, width):
    if not n_channels:
        return column // width
    last = n_heads * n_channels
    if column < last:
        return column // n_channels
    return column - last if column < last + n_heads else 0


@jit
def _factors(factors, j, own, head, n_heads):
    """The two products whose greater is the weight of row j."""
    padded = 1
    while padded < n_heads:
        padded *= 2
    e, t = 4 * padded * j + head, 4 * padded * own + head
    return (
        factors.flat[e] * factors.flat[t + padded],
        factors.flat[e + 2 * padded] * factors.flat[t + 3 * padded],
    )


@jit
def weighted_rows(slots, hits, n, rows, stride, factors, own, normal, out, at, heads, channels, blocks):
    n_heads, n_channels, width = len(heads), len(channels), len(blocks)
    for s in range(n_heads * width if n_heads and not n_channels else width):
        head = _head_of(s, n_heads, n_channels, width)
        norm, sum_ = np.float32(0), np.float32(0)
        for k in range(n):
            j, weight = np.int64(slots[hits[k]]), np.float32(1)
            if n_heads:
                a, b = _factors(factors, j, own, head, n_heads)
                weight = a if a > b else b
            norm += weight
            sum_ += weight * rows.flat[j * stride + s % width]
        out.flat[at + s] = sum_ / norm if normal and n_heads else sum_


@jit
def branched_rows(hits, n, rows, stride, factors, own, out, at, heads, channels, blocks):
    n_heads, n_channels, width = len(heads), len(channels), len(blocks)
    n_sums = width if n_channels else n_heads * width
    for s in range(n_sums):
        head = _head_of(s, n_heads, n_channels, width)
        every, above = np.float32(0), np.float32(0)
        for k in range(n):
            j = np.int64(hits[k])
            a, b = _factors(factors, j, own, head, n_heads)
            x = rows.flat[j * stride + s % width]
            every += (a if a > b else b) * x
            if a > b:
                above += a * x
        out.flat[at + s], out.flat[at + n_sums + s] = every, above
