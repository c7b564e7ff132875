"""Vectors of float32 in compiled loops: `WIDTH` numbers at a time, kept in registers.

`vectors` writes them as LLVM IR, sixteen numbers each. With `PHASESEG_SIMD=0` in the environment those of
`scalars` take their place, one number each, and the same kernels run as plain loops. Arrays that are read or
written a vector at a time must be contiguous, with rows of a multiple of `WIDTH` and room behind the last.
"""

from __future__ import annotations

import numpy as np

from phaseseg.compiled.jit import SIMD, inner

if SIMD:
    from phaseseg.compiled import vectors as lanes
else:
    from phaseseg.compiled import scalars as lanes  # type: ignore[no-redef]

WIDTH, HAS_AVX512 = lanes.WIDTH, lanes.HAS_AVX512
load, store, splat, spread, total = lanes.load, lanes.store, lanes.splat, lanes.spread, lanes.total
greater, where_at_most, bits_at_most = lanes.greater, lanes.where_at_most, lanes.bits_at_most
fetch = lanes.fetch
root, whole, power_of_two = lanes.root, lanes.whole, lanes.power_of_two
count_bits, count_up = lanes.count_bits, lanes.count_up
list_bits, append_lanes = lanes.list_bits, lanes.append_lanes
add_product = lanes.add_product
weighted_rows, branched_rows = lanes.weighted_rows, lanes.branched_rows


@inner
def exponential(a):
    """exp of lanes that are at most 0, as 2^k times a polynomial for 2^f, |f| <= 1/2; below -87 that of -87.

    The relative error is 2e-7 near 0 and grows with the rounding of a / log 2, to 5e-6 at -87.
    """
    t = greater(a, splat(np.float32(-87))) * splat(np.float32(1.4426950408889634))
    k = whole(t + splat(np.float32(0.5)))
    f = t - k
    p = splat(np.float32(1.535336188319500e-4)) * f + splat(np.float32(1.339887440266574e-3))
    p = p * f + splat(np.float32(9.618437357674640e-3))
    p = p * f + splat(np.float32(5.550332471162809e-2))
    p = p * f + splat(np.float32(2.402264791363012e-1))
    p = p * f + splat(np.float32(6.931472028550421e-1))
    return (p * f + splat(np.float32(1))) * power_of_two(k)
