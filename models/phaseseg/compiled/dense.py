"""Dense layers of a network in compiled loops: a small matrix product that stays in registers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.compiled.jit import jit
from phaseseg.compiled.simd import HAS_AVX512, WIDTH, add_product, greater, load, splat, spread, store

ROWS = 8
"""Rows that `dense` multiplies at once."""


def whole_registers(n: int) -> int:
    """The length of a row of n numbers, padded to whole registers."""
    return -(-n // WIDTH) * WIDTH


def padded_row(values: NDArray[Any]) -> NDArray[np.float32]:
    """The values (n,), padded with zeros to whole registers."""
    out = np.zeros(whole_registers(len(values)), dtype=np.float32)
    out[: len(values)] = values
    return out


def padded_columns(weight: NDArray[Any]) -> NDArray[np.float32]:
    """Weights (inputs, columns) for `dense` from (outputs, inputs): zeros behind the outputs."""
    out = np.zeros((weight.shape[1], whole_registers(len(weight))), dtype=np.float32)
    out[:, : len(weight)] = weight.T
    return out


@jit
def _put(out, at, lanes, add, rectify):
    if add:
        lanes = lanes + load(out, at)
    if rectify:
        lanes = greater(lanes, splat(np.float32(0)))
    store(out, at, lanes)


@jit
def dense(x, x_at, inputs, weight, bias, out, out_at, n_rows, add, rectify):
    """out = x @ weight + bias, or added to what is there with `add`; then max(0, out) if `rectify`.

    x_at, out_at : flat indices of the first number of the first row; inputs : how many numbers of a row count
    weight : (inputs, columns), columns a multiple of WIDTH; bias : (columns,)

    Rows are multiplied eight at a time, also beyond the last, and written in order.
    """
    wide, length, columns = x.shape[1], out.shape[1], weight.shape[1]
    for i in range(0, n_rows, 8):
        a, o = x_at + i * wide, out_at + i * length
        for c in range(0, columns, WIDTH):
            s0 = load(bias, c)
            s1, s2, s3, s4, s5, s6, s7 = s0, s0, s0, s0, s0, s0, s0
            for k in range(inputs):
                w = load(weight, k * columns + c)
                s0 = s0 + spread(x, a + k) * w
                s1 = s1 + spread(x, a + k + wide) * w
                s2 = s2 + spread(x, a + k + 2 * wide) * w
                s3 = s3 + spread(x, a + k + 3 * wide) * w
                s4 = s4 + spread(x, a + k + 4 * wide) * w
                s5 = s5 + spread(x, a + k + 5 * wide) * w
                s6 = s6 + spread(x, a + k + 6 * wide) * w
                s7 = s7 + spread(x, a + k + 7 * wide) * w
            at = o + c
            _put(out, at, s0, add, rectify)
            _put(out, at + length, s1, add, rectify)
            _put(out, at + 2 * length, s2, add, rectify)
            _put(out, at + 3 * length, s3, add, rectify)
            _put(out, at + 4 * length, s4, add, rectify)
            _put(out, at + 5 * length, s5, add, rectify)
            _put(out, at + 6 * length, s6, add, rectify)
            _put(out, at + 7 * length, s7, add, rectify)


# Tiles --------------------------------------------------------------------------------------------

TILE_ROWS = 6
"""Rows that `add_layer` multiplies at once."""
_ROWS = (0,) * TILE_ROWS
_ONE = (0,)
# Only processors with 32 registers of 16 numbers can hold the sums of four registers for each of six rows.
_BLOCKS = (0,) * (4 if HAS_AVX512 else 1)
_AT_ONCE = len(_BLOCKS) * WIDTH


def whole_tiles(n: int) -> int:
    """The number of rows that n rows need, if they are multiplied `TILE_ROWS` at a time."""
    return -(-n // TILE_ROWS) * TILE_ROWS


@jit
def _add_rows(
    x,
    x_at,
    stride,
    step,
    inputs,
    weight,
    first,
    columns,
    base,
    base_at,
    base_stride,
    out,
    out_at,
    rectify,
    rows,
):
    """All columns for a few rows."""
    length, c = out.shape[1], 0
    while c + _AT_ONCE <= columns:
        add_product(
            x, x_at, stride, step, inputs, weight, columns, first + c, base, base_at + c, base_stride, out,
            out_at + c, length, rectify, rows, _BLOCKS,
        )  # fmt: skip
        c += _AT_ONCE
    while c < columns:
        add_product(
            x, x_at, stride, step, inputs, weight, columns, first + c, base, base_at + c, base_stride, out,
            out_at + c, length, rectify, rows, _ONE,
        )  # fmt: skip
        c += WIDTH


@jit
def add_layer(x, x_at, inputs, weight, base, base_at, base_stride, out, out_at, rectify):
    """out = base + x @ weight for `TILE_ROWS` rows; then max(0, out) if `rectify`.

    x_at, base_at, out_at : flat indices of the first number of the first row; inputs : how many numbers of a
        row of x count
    weight : (inputs, columns), columns a multiple of WIDTH
    base_stride : from one row of the base to the next, 0 for a bias; the base may be `out`
    """
    _add_rows(
        x, x_at, x.shape[1], 1, inputs, weight, 0, weight.shape[1], base, base_at, base_stride, out, out_at,
        rectify, _ROWS,
    )  # fmt: skip


@jit
def _add_transposed(x, x_at, stride, y, y_at, n_rows, out, at, rows):
    length = out.shape[1]
    _add_rows(x, x_at, 1, stride, n_rows, y, y_at, length, out, at, length, out, at, False, rows)


@jit
def add_transposed(x, x_at, y, y_at, n_rows, out):
    """out += x.T @ y over n_rows rows of each, as the gradient of a weight needs it.

    x_at, y_at : flat indices of the first number of the first row
    out : (at most the columns of x, the columns of y, a multiple of WIDTH)
    """
    columns, k = out.shape[1], 0
    while k + TILE_ROWS <= out.shape[0]:
        _add_transposed(x, x_at + k, x.shape[1], y, y_at, n_rows, out, k * columns, _ROWS)
        k += TILE_ROWS
    while k < out.shape[0]:
        _add_transposed(x, x_at + k, x.shape[1], y, y_at, n_rows, out, k * columns, _ONE)
        k += 1
