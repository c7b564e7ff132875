"""Sixteen float32 numbers at a time in compiled loops, and sums of rows that stay in registers.

LLVM makes of a vector of sixteen what the processor has: one AVX-512 register, two of AVX2, four of
NEON. Loops that numba leaves to the vectorizer end in scalar rests and keep their sums in memory.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from phaseseg.compiled.jit import jit

WIDTH = 16
FAST = ("contract", "reassoc", "nsz")
BIT, F32, I32, I64 = ir.IntType(1), ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR, INTEGERS = ir.VectorType(F32, WIDTH), ir.VectorType(I32, WIDTH)


class _Lanes(types.Type):  # type: ignore[misc]
    def __init__(self):
        super().__init__(name="Lanes")


LANES = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager, kind):
        super().__init__(manager, kind, VECTOR)


def _arithmetic(operation, name):
    class Typed(ConcreteTemplate):  # type: ignore[misc]
        cases = [signature(LANES, LANES, LANES)]  # noqa: RUF012 - numba's interface

    def lowered(context, builder, sig, args):
        return getattr(builder, name)(*args, flags=FAST)

    infer_global(operation)(Typed)
    lower_builtin(operation, LANES, LANES)(lowered)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")


def _instruction(doc, result, arguments, emit):
    """A function for compiled code; `emit(builder, *arguments)` writes it."""

    def made(*given):
        kinds = [own if kind is None else kind for own, kind in zip(given, arguments, strict=True)]

        def codegen(context, builder, sig, args):
            # Of an array its address is all that is used.
            args = [
                context.make_array(kind)(context, builder, arg).data if isinstance(kind, types.Array) else arg
                for kind, arg in zip(sig.args, args, strict=True)
            ]
            value = emit(builder, *args)
            return context.get_dummy_value() if result is types.void else value

        return signature(result, *kinds), codegen

    typings = {
        1: lambda typingctx, a: made(a),
        2: lambda typingctx, a, b: made(a, b),
        3: lambda typingctx, a, b, c: made(a, b, c),
    }
    typing = typings[len(arguments)]
    typing.__doc__ = doc
    return intrinsic(typing)


def _splat(builder, scalar):
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, ir.Constant(VECTOR, ir.Undefined), ir.Constant(INTEGERS, None))


def _at(builder, data, index, vector=VECTOR):
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _at_most(builder, a, b):
    return builder.fcmp_ordered("<=", a, b)


def _vector_call(name):
    def emit(builder, a):
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(VECTOR, [VECTOR]), f"llvm.{name}.v{WIDTH}f32"
        )
        return builder.call(function, [a])

    return emit


def _total(builder, a):
    kind = ir.FunctionType(F32, [F32, VECTOR])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{WIDTH}f32")
    return builder.call(function, [ir.Constant(F32, 0.0), a], fastmath=FAST)


def _power_of_two(builder, a):
    n = builder.add(builder.fptosi(a, INTEGERS), ir.Constant(INTEGERS, [127] * WIDTH))
    return builder.bitcast(builder.shl(n, ir.Constant(INTEGERS, [23] * WIDTH)), VECTOR)


load = _instruction(
    "Lanes from a contiguous float32 array, from a flat index on.",
    LANES, (None, types.int64), lambda b, data, index: b.load(_at(b, data, index), align=4),
)  # fmt: skip
store = _instruction(
    "Put lanes into a contiguous float32 array, from a flat index on.", types.void,
    (None, types.int64, LANES), lambda b, data, index, a: b.store(a, _at(b, data, index), align=4),
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
    "Whether the first is at most the second, a bit to each lane.", types.uint64, (LANES, LANES),
    lambda b, x, y: b.zext(b.bitcast(_at_most(b, x, y), ir.IntType(WIDTH)), I64),
)  # fmt: skip
root = _instruction("Square roots.", LANES, (LANES,), _vector_call("sqrt"))
whole = _instruction("The next whole numbers below.", LANES, (LANES,), _vector_call("floor"))
power_of_two = _instruction("2^n of whole numbers -126 <= n <= 127.", LANES, (LANES,), _power_of_two)
count_bits = _instruction(
    "How many bits are set.", types.int64, (types.uint64,), lambda b, bits: b.ctpop(bits)
)  # fmt: skip


# For every byte the places of the bits that are set in it, from the lowest on.
_PLACES = np.array(
    [([k for k in range(8) if byte >> k & 1] + 8 * [0])[:8] for byte in range(256)], dtype=np.int32
)
_EIGHT = ir.VectorType(I32, 8)


@intrinsic
def _put_places(typingctx, places, byte, first, out, n):
    def codegen(context, builder, sig, args):
        places, out = (context.make_array(sig.args[k])(context, builder, args[k]).data for k in (0, 3))
        found = builder.load(_at(builder, places, builder.shl(args[1], ir.Constant(I64, 3)), _EIGHT), align=4)
        one = builder.insert_element(ir.Constant(_EIGHT, ir.Undefined), args[2], ir.Constant(I32, 0))
        base = builder.shuffle_vector(one, one, ir.Constant(_EIGHT, None))
        builder.store(builder.add(found, base), _at(builder, out, args[4], _EIGHT), align=4)
        return context.get_dummy_value()

    return types.void(places, types.uint64, types.int32, out, types.int64), codegen


@jit
def list_bits(bits, first, out, n):
    """Append first + k to the int32 `out` for every k of 16 bits that is set; returns the new length.

    Up to 16 places behind are written, too, but there is no branch for a processor to guess.
    """
    low, high = bits & np.uint64(255), bits >> np.uint64(8)
    _put_places(_PLACES, low, first, out, n)
    n += count_bits(low)
    _put_places(_PLACES, high, first + 8, out, n)
    return n + count_bits(high)


@intrinsic
def count_up(typingctx, out, at, first, step):
    """Sixteen int32 first, first + step ... from a flat index of a contiguous array on."""

    def codegen(context, builder, sig, args):
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        one = ir.Constant(INTEGERS, ir.Undefined)
        base, steps = (
            builder.shuffle_vector(
                builder.insert_element(one, args[k], ir.Constant(I32, 0)), one, ir.Constant(INTEGERS, None)
            )
            for k in (2, 3)
        )
        ramp = builder.mul(steps, ir.Constant(INTEGERS, list(range(WIDTH))))
        builder.store(builder.add(base, ramp), _at(builder, data, args[1], INTEGERS), align=4)
        return context.get_dummy_value()

    return types.void(out, types.int64, types.int32, types.int32), codegen


@jit
def exponential(a):
    """exp of lanes that are at most 0, relative error 2e-7; below -87 that of -87.

    2^f by a polynomial for |f| <= 1/2, times 2^k.
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


@intrinsic
def weighted_rows(
    typingctx, slots, hits, n, rows, stride, factors, own, normal, out, at, heads, channels, blocks
):
    """out[at:] = sum over the n rows slots[hits[k]] of weight times row, in blocks of sixteen.

    slots, hits : int32; rows : float32, contiguous, `stride` apart
    factors : float32, contiguous; row j is [e, t, f, u], as many numbers each as heads rounded up to a
        power of two. The weight of row j and a head is max(e_j t_i, f_j u_i) with i = own.
    normal : whether sums are divided by the sum of the weights
    heads, channels, blocks : tuples whose *length* counts, so that a kernel is compiled for each
        no heads: all weights are 1
        no channels: every head sums all blocks of the row; the sums of the first head come first
        else: each head sums its own channels, the blocks in which they follow one another
    """
    n_heads, n_channels, n_blocks = heads.count, channels.count, blocks.count
    padded = 1 << max(n_heads - 1, 0).bit_length()
    short = ir.VectorType(F32, padded)
    if n_heads and not n_channels:
        sums = [(block, [head] * WIDTH) for head in range(n_heads) for block in range(n_blocks)]
    else:
        lanes = [[WIDTH * block + lane for lane in range(WIDTH)] for block in range(n_blocks)]
        sums = [(b, [min(c // max(n_channels, 1), n_heads - 1) for c in lanes[b]]) for b in range(n_blocks)]

    def codegen(context, builder, sig, args):
        data = {k: context.make_array(sig.args[k])(context, builder, args[k]).data for k in (0, 1, 3, 5, 8)}
        number, step, own, normal, at = (args[k] for k in (2, 4, 6, 7, 9))
        length = ir.Constant(I64, 4 * padded)

        def numbers(row, part):
            index = builder.add(builder.mul(row, length), ir.Constant(I64, part * padded))
            return builder.load(_at(builder, data[5], index, short), align=4)

        def of_heads(values, chosen):
            return builder.shuffle_vector(values, values, ir.Constant(INTEGERS, chosen))

        totals = [cgutils.alloca_once_value(builder, ir.Constant(VECTOR, None)) for _ in sums]
        norm = cgutils.alloca_once_value(builder, ir.Constant(short, None))
        for place in totals:
            builder.store(ir.Constant(VECTOR, None), place)
        builder.store(ir.Constant(short, None), norm)
        t, u = (numbers(own, part) for part in (1, 3)) if n_heads else (None, None)
        with cgutils.for_range(builder, number, intp=I64) as loop:
            hit = builder.zext(builder.load(builder.gep(data[1], [loop.index])), I64)
            row = builder.zext(builder.load(builder.gep(data[0], [hit])), I64)
            if n_heads:
                a = builder.fmul(numbers(row, 0), t, flags=FAST)
                b = builder.fmul(numbers(row, 2), u, flags=FAST)
                weight = builder.select(builder.fcmp_ordered(">", a, b), a, b)
                builder.store(builder.fadd(builder.load(norm), weight, flags=FAST), norm)
            start = builder.mul(row, step)
            loaded = [
                builder.load(_at(builder, data[3], builder.add(start, ir.Constant(I64, WIDTH * b))), align=4)
                for b in range(n_blocks)
            ]
            for place, (block, chosen) in zip(totals, sums, strict=True):
                term = loaded[block]
                if n_heads:
                    term = builder.fmul(of_heads(weight, chosen), term, flags=FAST)
                builder.store(builder.fadd(builder.load(place), term, flags=FAST), place)
        one = ir.Constant(short, [1.0] * padded)
        inverse = builder.select(normal, builder.fdiv(one, builder.load(norm)), one)
        for k, (place, (_, chosen)) in enumerate(zip(totals, sums, strict=True)):
            value = builder.load(place)
            if n_heads:
                value = builder.fmul(value, of_heads(inverse, chosen), flags=FAST)
            index = builder.add(at, ir.Constant(I64, WIDTH * k))
            builder.store(value, _at(builder, data[8], index), align=4)
        return context.get_dummy_value()

    kinds = (
        slots,
        hits, types.int64, rows, types.int64, factors, types.int64, types.boolean, out, types.int64,
        heads, channels, blocks,
    )  # fmt: skip
    return types.void(*kinds), codegen


@jit
def _put(out, at, lanes, add, rectify):
    if add:
        lanes = lanes + load(out, at)
    if rectify:
        lanes = greater(lanes, splat(np.float32(0)))
    store(out, at, lanes)


@jit
def dense(x, x_at, inputs, weight, bias, out, out_at, n_rows, add, rectify):
    """out = x @ weight + bias, or added to what is there; then max(0, out) if `rectify`.

    x_at, out_at : flat indices of the first number of the first row; inputs: numbers used of a row
    weight : (inputs, columns), columns a multiple of 16; bias : (columns,)

    Rows are done eight at a time, also beyond the last, and written in order.
    """
    wide, length, columns = x.shape[1], out.shape[1], weight.shape[1]
    for i in range(0, n_rows, 8):
        a, o = x_at + i * wide, out_at + i * length
        for c in range(0, columns, 16):
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
