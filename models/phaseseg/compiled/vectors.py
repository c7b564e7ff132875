"""Vectors of sixteen float32 in compiled loops, written as LLVM IR; `scalars` has a twin of everything here.

LLVM maps a vector of sixteen to what the processor has: one AVX-512 register, two of AVX2, four of NEON.
Loops that are left to the vectorizer end in scalar remainders and keep their sums in memory.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, codegen, config
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from phaseseg.compiled.jit import jit

WIDTH = 16
FAST = ("contract", "reassoc", "nsz")
F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR, INTEGERS = ir.VectorType(F32, WIDTH), ir.VectorType(I32, WIDTH)

# What numba compiles for: this processor, unless NUMBA_CPU_FEATURES or NUMBA_CPU_NAME says something else.
_FEATURES = codegen.get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
HAS_AVX512 = "+avx512f" in _FEATURES.split(",")


class _Lanes(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="Lanes")


LANES = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)


def _arithmetic(operation: Callable[..., Any], name: str) -> None:
    class Typed(ConcreteTemplate):  # type: ignore[misc]
        cases = [signature(LANES, LANES, LANES)]  # noqa: RUF012 - numba's interface

    def lowered(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, name)(*args, flags=FAST)

    infer_global(operation)(Typed)
    lower_builtin(operation, LANES, LANES)(lowered)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")


def _instruction(doc: str | None, result: Any, arguments: tuple[Any, ...], emit: Callable[..., Any]) -> Any:
    """A function for compiled code, written by `emit(builder, *arguments)`.

    It gets the address of an array and the length of a tuple.
    result, arguments : numba's types; None where any type is accepted
    """

    def plain(context: Any, builder: Any, kind: Any, value: Any) -> Any:
        if isinstance(kind, types.BaseTuple):
            return len(kind)
        if isinstance(kind, types.Array):
            return context.make_array(kind)(context, builder, value).data
        return value

    def typing(_: Any, *given: Any) -> Any:
        kinds = [own if kind is None else kind for own, kind in zip(given, arguments, strict=True)]

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            plainly = [plain(context, builder, *each) for each in zip(sig.args, args, strict=True)]
            value = emit(builder, *plainly)
            return context.get_dummy_value() if result is types.void else value

        return signature(result, *kinds), codegen

    names = ["typingctx", *(f"a{n}" for n in range(len(arguments)))]
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    typing.__doc__, typing.__signature__ = doc, inspect.Signature(parameters)  # type: ignore[attr-defined]
    return intrinsic(typing)


def _splat(builder: Any, scalar: Any, kind: Any = VECTOR) -> Any:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, kind.count), None)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)


def _at(builder: Any, data: Any, index: Any, kind: Any = VECTOR) -> Any:
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


def _at_most(builder: Any, a: Any, b: Any) -> Any:
    return builder.fcmp_ordered("<=", a, b)


def _call(builder: Any, name: str, result: Any, *args: Any, **options: Any) -> Any:
    kind = ir.FunctionType(result, [arg.type for arg in args])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{WIDTH}f32")
    return builder.call(function, args, **options)


def _total(builder: Any, a: Any) -> Any:
    return _call(builder, "vector.reduce.fadd", F32, ir.Constant(F32, 0.0), a, fastmath=FAST)


def _power_of_two(builder: Any, a: Any) -> Any:
    n = builder.add(builder.fptosi(a, INTEGERS), ir.Constant(INTEGERS, [127] * WIDTH))
    return builder.bitcast(builder.shl(n, ir.Constant(INTEGERS, [23] * WIDTH)), VECTOR)


def _ramp(builder: Any, first: Any, step: Any) -> Any:
    ramp = builder.mul(_splat(builder, step, INTEGERS), ir.Constant(INTEGERS, list(range(WIDTH))))
    return builder.add(_splat(builder, first, INTEGERS), ramp)


def _count_up(builder: Any, out: Any, at: Any, first: Any, step: Any) -> Any:
    return builder.store(_ramp(builder, first, step), _at(builder, out, at, INTEGERS), align=4)


def _append(builder: Any, bits: Any, values: Any, out: Any, n: Any) -> None:
    chosen, kind = ir.VectorType(ir.IntType(1), WIDTH), values.type
    mask = builder.bitcast(builder.trunc(bits, ir.IntType(WIDTH)), chosen)
    name = f"llvm.x86.avx512.mask.compress.v{WIDTH}{'f' if kind == VECTOR else 'i'}32"
    typed = ir.FunctionType(kind, [kind, kind, chosen])
    function = cgutils.get_or_insert_function(builder.module, typed, name)
    found = builder.call(function, [values, ir.Constant(kind, None), mask])
    # In two steps: to compress straight into memory is slow on AMD's processors.
    builder.store(found, _at(builder, out, n, kind), align=4)


def _compress(builder: Any, bits: Any, first: Any, out: Any, n: Any) -> Any:
    _append(builder, bits, _ramp(builder, first, ir.Constant(I32, 1)), out, n)
    return builder.add(n, builder.ctpop(bits))


def _fetch(builder: Any, data: Any, index: Any) -> Any:
    place = builder.bitcast(builder.gep(data, [index]), cgutils.voidptr_t)
    kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    return builder.call(function, [place, ir.Constant(I32, 0), ir.Constant(I32, 2), ir.Constant(I32, 1)])


def _put_places(builder: Any, places: Any, byte: Any, first: Any, out: Any, n: Any) -> Any:
    eight = ir.VectorType(I32, 8)
    found = builder.load(_at(builder, places, builder.shl(byte, ir.Constant(I64, 3)), eight), align=4)
    return builder.store(
        builder.add(found, _splat(builder, first, eight)), _at(builder, out, n, eight), align=4
    )


load = _instruction(
    "Lanes from a contiguous float32 array, starting at a flat index.",
    LANES, (None, types.int64), lambda b, data, index: b.load(_at(b, data, index), align=4),
)  # fmt: skip
store = _instruction(
    "Put lanes into a contiguous float32 array, starting at a flat index.", types.void,
    (None, types.int64, LANES), lambda b, data, index, a: b.store(a, _at(b, data, index), align=4),
)  # fmt: skip
fetch = _instruction(
    "Bring what a float32 array has from a flat index on, which may be outside, to the second-level cache.",
    types.void, (None, types.int64), _fetch,
)  # fmt: skip
splat = _instruction("The same number in every lane.", LANES, (types.float32,), _splat)
spread = _instruction(
    "The number at a flat index of a contiguous float32 array in every lane.", LANES, (None, types.int64),
    lambda b, data, index: _splat(b, b.load(b.gep(data, [index]))),
)  # fmt: skip
total = _instruction("Sum of the lanes.", types.float32, (LANES,), _total)
greater = _instruction(
    "The greater of each two lanes.", LANES, (LANES, LANES),
    lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y),
)  # fmt: skip
where_at_most = _instruction(
    "The third where the first is at most the second, zero elsewhere.", LANES, (LANES, LANES, LANES),
    lambda b, x, y, z: b.select(_at_most(b, x, y), z, ir.Constant(VECTOR, None)),
)  # fmt: skip
bits_at_most = _instruction(
    "Whether the first is at most the second, one bit per lane.", types.uint64, (LANES, LANES),
    lambda b, x, y: b.zext(b.bitcast(_at_most(b, x, y), ir.IntType(WIDTH)), I64),
)  # fmt: skip
root = _instruction("Square roots.", LANES, (LANES,), lambda b, a: _call(b, "sqrt", VECTOR, a))
whole = _instruction(
    "The next whole numbers below.", LANES, (LANES,), lambda b, a: _call(b, "floor", VECTOR, a)
)  # fmt: skip
power_of_two = _instruction("2^n of whole numbers -126 <= n <= 127.", LANES, (LANES,), _power_of_two)
count_bits = _instruction(
    "Number of bits that are set.", types.int64, (types.uint64,), lambda b, bits: b.ctpop(bits)
)  # fmt: skip
count_up = _instruction(
    "Put the int32 first, first + step ..., one per lane, into a contiguous array, starting at a flat index.",
    types.void, (None, types.int64, types.int32, types.int32), _count_up,
)  # fmt: skip
_place = _instruction(
    "Put first + the places of the bits of a byte, eight numbers, into an array, starting at an index.",
    types.void, (None, types.uint64, types.int32, None, types.int64), _put_places,
)  # fmt: skip


def _add_product(
    builder: Any, x: Any, x_at: Any, stride: Any, step: Any, inputs: Any, weight: Any, columns: Any,
    first: Any, base: Any, base_at: Any, base_stride: Any, out: Any, at: Any, length: Any, rectify: Any,
    n_rows: int, n_blocks: int,
) -> None:  # fmt: skip
    tile = [(r, c) for r in range(n_rows) for c in range(n_blocks)]

    def number(value: int) -> Any:
        return ir.Constant(I64, value)

    def place(data: Any, start: Any, stride: Any, r: int, c: int) -> Any:
        row = builder.add(start, builder.mul(stride, number(r)))
        return _at(builder, data, builder.add(row, number(WIDTH * c)))

    sums = {}
    for r, c in tile:
        sums[r, c] = cgutils.alloca_once(builder, VECTOR)
        builder.store(builder.load(place(base, base_at, base_stride, r, c), align=4), sums[r, c])
    with cgutils.for_range(builder, inputs, intp=I64) as loop:
        start = builder.add(builder.mul(loop.index, columns), first)
        blocks = [
            builder.load(_at(builder, weight, builder.add(start, number(WIDTH * c))), align=4)
            for c in range(n_blocks)
        ]
        for r in range(n_rows):
            index = builder.add(builder.mul(step, loop.index), builder.mul(stride, number(r)))
            one = _splat(builder, builder.load(builder.gep(x, [builder.add(x_at, index)])))
            for c, block in enumerate(blocks):
                term = builder.fmul(one, block, flags=FAST)
                builder.store(builder.fadd(builder.load(sums[r, c]), term, flags=FAST), sums[r, c])
    zero = ir.Constant(VECTOR, None)
    for r, c in tile:
        value = builder.load(sums[r, c])
        positive = builder.select(builder.fcmp_ordered("<", value, zero), zero, value)
        builder.store(builder.select(rectify, positive, value), place(out, at, length, r, c), align=4)


add_product = _instruction(
    """out = base + x @ weight for a few rows and some registers of columns, kept there; then max(0, out).

    x : number k of row r is at the flat index x_at + r * stride + k * step; `inputs` of them count
    weight : contiguous, (inputs, columns); `first` is the flat index of the first column of the first row
    base, out : row r begins at the flat index base_at + r * base_stride, and at + r * length
    rectify : whether max(0, out) is stored
    rows, blocks : tuples whose *length* counts, so that the loop is compiled for each
    """,
    types.void,
    (
        None, types.int64, types.int64, types.int64, types.int64, None, types.int64, types.int64, None,
        types.int64, types.int64, None, types.int64, types.int64, types.boolean, None, None,
    ),
    _add_product,
)  # fmt: skip

# For every byte the places of the bits that are set in it, from the lowest on.
_PLACES = np.array(
    [([k for k in range(8) if byte >> k & 1] + 8 * [0])[:8] for byte in range(256)], dtype=np.int32
)


@jit
def list_bytes(bits, first, out, n):
    """Append first + k to the int32 array `out` for every lane k whose bit is set; returns the new length.

    Up to sixteen numbers behind the end are overwritten, which saves a branch that is hard to predict.
    """
    low, high = bits & np.uint64(255), bits >> np.uint64(8)
    _place(_PLACES, low, first, out, n)
    n += count_bits(low)
    _place(_PLACES, high, first + 8, out, n)
    return n + count_bits(high)


list_bits = list_bytes
if HAS_AVX512:
    list_bits = _instruction(
        list_bytes.__doc__, types.int64, (types.uint64, types.int32, None, types.int64), _compress
    )


@jit
def append_bytes(bits, a, out, n):
    """Put the lanes whose bits are set into the float32 array `out`, from index n on.

    Up to sixteen numbers behind the last are overwritten.
    """
    store(out, n, a)
    low, high = bits & np.uint64(255), bits >> np.uint64(8)
    n_low = count_bits(low)
    for k in range(n_low):
        out[n + k] = out[n + _PLACES[low, k]]
    for k in range(count_bits(high)):
        out[n + n_low + k] = out[n + 8 + _PLACES[high, k]]


append_lanes = append_bytes
if HAS_AVX512:
    append_lanes = _instruction(
        append_bytes.__doc__, types.void, (types.uint64, LANES, None, types.int64), _append
    )


# Sums of rows ---------------------------------------------------------------------------------------


def _sum_rows(
    builder: Any, row_of: Callable[[Any], Any], n: Any, rows: Any, stride: Any, factors: Any, own: Any,
    normal: Any, out: Any, at: Any, n_heads: int, n_channels: int, n_blocks: int,
) -> None:  # fmt: skip
    """Weighted sums of the rows `row_of(0 ... n - 1)`, kept in registers, as the functions below say.

    normal : as for `weighted_rows`; if it is None there are two sums, as for `branched_rows`
    """
    padded = 1 << max(n_heads - 1, 0).bit_length()
    short = ir.VectorType(F32, padded)
    last = n_heads * n_channels

    def head_of(column: int) -> int:
        if column < last:
            return column // n_channels
        return column - last if column < last + n_heads else 0

    if n_heads and not n_channels:
        parts = [(block, [head] * WIDTH) for head in range(n_heads) for block in range(n_blocks)]
    else:
        parts = [(b, [head_of(WIDTH * b + lane) for lane in range(WIDTH)]) for b in range(n_blocks)]

    def numbers(row: Any, part: int) -> Any:
        place = builder.add(builder.mul(row, ir.Constant(I64, 4 * padded)), ir.Constant(I64, part * padded))
        return builder.load(_at(builder, factors, place, short), align=4)

    def block_of(data: Any, start: Any, block: int) -> Any:
        return _at(builder, data, builder.add(start, ir.Constant(I64, WIDTH * block)))

    def of_heads(values: Any, heads: list[int]) -> Any:
        return builder.shuffle_vector(values, values, ir.Constant(INTEGERS, heads))

    def add(place: Any, term: Any) -> None:
        builder.store(builder.fadd(builder.load(place), term, flags=FAST), place)

    def zeros(kind: Any) -> Any:
        place = cgutils.alloca_once_value(builder, ir.Constant(kind, None))
        builder.store(ir.Constant(kind, None), place)
        return place

    sums = [[zeros(VECTOR) for _ in parts] for _ in range(2 if normal is None else 1)]
    norm = zeros(short)
    t, u = (numbers(own, part) for part in (1, 3)) if n_heads else (None, None)
    with cgutils.for_range(builder, n, intp=I64) as loop:
        row = row_of(loop.index)
        weights: list[Any] = [None]
        if n_heads:
            a = builder.fmul(numbers(row, 0), t, flags=FAST)
            b = builder.fmul(numbers(row, 2), u, flags=FAST)
            above = builder.fcmp_ordered(">", a, b)
            weights = [builder.select(above, a, b), builder.select(above, a, ir.Constant(short, None))]
        if n_heads and normal is not None:
            add(norm, weights[0])
        start = builder.mul(row, stride)
        loaded = [builder.load(block_of(rows, start, b), align=4) for b in range(n_blocks)]
        for weight, places in zip(weights, sums, strict=False):
            for place, (block, heads) in zip(places, parts, strict=True):
                term = loaded[block]
                if n_heads:
                    term = builder.fmul(of_heads(weight, heads), term, flags=FAST)
                add(place, term)
    if n_heads and normal is not None:
        one = ir.Constant(short, [1.0] * padded)
        inverse = builder.select(normal, builder.fdiv(one, builder.load(norm)), one)
    for k, place in enumerate(place for places in sums for place in places):
        value = builder.load(place)
        if n_heads and normal is not None:
            value = builder.fmul(value, of_heads(inverse, parts[k][1]), flags=FAST)
        builder.store(value, block_of(out, at, k), align=4)


def _weighted_rows(b: Any, slots: Any, hits: Any, *rest: Any) -> None:
    def row_of(k: Any) -> Any:
        hit = b.zext(b.load(b.gep(hits, [k])), I64)
        return b.zext(b.load(b.gep(slots, [hit])), I64)

    _sum_rows(b, row_of, *rest)


def _branched_rows(
    b: Any, hits: Any, n: Any, rows: Any, stride: Any, factors: Any, own: Any, *rest: Any
) -> None:
    def row_of(k: Any) -> Any:
        return b.sext(b.load(b.gep(hits, [k])), I64)

    _sum_rows(b, row_of, n, rows, stride, factors, own, None, *rest)


_ARRAY = _TUPLE = None
weighted_rows = _instruction(
    """out[at:] = sum over the n rows slots[hits[k]] of weight times row, in whole registers.

    slots, hits : int32; rows : float32, contiguous, `stride` apart
    factors : float32, contiguous; row j is [e, t, f, u], each with as many numbers as heads, rounded up to a
        power of two. The weight of row j for a head is max(e_j t_i, f_j u_i) with i = own.
    normal : whether sums are divided by the sum of the weights
    heads, channels, blocks : tuples whose *length* counts, so that a kernel is compiled for each; a block is
        a register
        no heads: all weights are 1
        no channels: every head sums all blocks of the row; the sums of the first head come first
        else: each head sums its own channels, one head after the other; behind the channels of the last
        comes one more number for each head
    """,
    types.void,
    (
        _ARRAY, _ARRAY, types.int64, _ARRAY, types.int64, _ARRAY, types.int64, types.boolean, _ARRAY,
        types.int64, _TUPLE, _TUPLE, _TUPLE,
    ),
    _weighted_rows,
)  # fmt: skip
branched_rows = _instruction(
    """As `weighted_rows` of the rows hits[k], not divided, followed by the same over one branch alone.

    The second sums count a row for a head only where e_j t_i > f_j u_i.
    """,
    types.void,
    (
        _ARRAY, types.int64, _ARRAY, types.int64, _ARRAY, types.int64, _ARRAY, types.int64,
        _TUPLE, _TUPLE, _TUPLE,
    ),
    _branched_rows,
)  # fmt: skip
