"""Vectors and their scalar twins: the same kernels, compiled both ways, give the same numbers.

This process has one of the two (`PHASESEG_SIMD`), a second one gets the other and runs this file. The second
one also checks bounds: no index leaves its array, in any awkward frame. One process does both, because
compiling takes most of the time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from functools import cache
from importlib import import_module
from math import inf
from pathlib import Path

import numpy as np
import pytest

from mobility_samples import liquid, random_weights
from phaseseg import glass_metrics, label_phases, list_checkpoints, load_model
from phaseseg.compiled import dense, simd, vectors
from phaseseg.compiled.jit import SIMD, jit
from phaseseg.compiled.simd import WIDTH, load, splat, store
from phaseseg.families import FAMILIES, Fitted
from phaseseg.families.mobility.inference import MessageNetwork
from phaseseg.families.mobility.message_graph import message_graph
from phaseseg.families.mobility.settings import BapstConfig
from phaseseg.families.segmentation import inference
from phaseseg.families.segmentation.node_features import node_features
from phaseseg.families.segmentation.settings import NetworkConfig, Scaling
from phaseseg.neighbors import nearest_neighbors, neighbor_graph
from phaseseg.testing import AWKWARD, ROUNDING, awkward_frames, tilted

# Of the largest number: sums of some hundred float32 terms in another order, layer after layer.
SAME = ROUNDING["float32"]
N = 64
SPECIES = ("Fe", "Mg", "Si", "O", "N")
# What the bundled networks lack: counts as features, odd sizes, sums of inputs and of outputs, graphconv.
NETWORKS = {
    "attention": {"layers": 3, "hidden": 7, "heads": 3},
    "graphconv": {"architecture": "graphconv", "hidden": 11},
}


# Primitives ---------------------------------------------------------------------------------------


@jit
def _primitives(a, b, c, out, bits, hits, chosen, counts):
    """A row of `out` for each function of vectors."""
    n = a.size
    found = 0
    for k in range(0, n, WIDTH):
        x, y, z = load(a, k), load(b, k), load(c, k)
        store(out, k, x + y)
        store(out, n + k, x - y)
        store(out, 2 * n + k, x * y)
        store(out, 3 * n + k, simd.greater(x, y))
        store(out, 4 * n + k, simd.where_at_most(x, y, z))
        store(out, 5 * n + k, simd.root(x * x))
        store(out, 6 * n + k, simd.whole(x))
        store(out, 7 * n + k, simd.power_of_two(simd.whole(x)))
        store(out, 8 * n + k, splat(a[3]))
        store(out, 9 * n + k, simd.spread(b, 5))
        bits[0] += simd.count_bits(simd.bits_at_most(x, y))
        out[10, 0] += simd.total(x)
        simd.append_lanes(simd.bits_at_most(x, y), z, chosen, found)
        found = simd.list_bits(simd.bits_at_most(x, y), k, hits, found)
        simd.count_up(counts, k, 3 + 2 * k, 2)
    bits[1] = found


def primitives():
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(scale=20, size=N).astype(np.float32) for _ in range(3))
    b[::7] = a[::7]
    out = np.zeros((11, N), dtype=np.float32)
    bits, hits, counts = np.zeros(2, np.int64), np.zeros(N + 16, np.int32), np.zeros(N, np.int32)
    chosen = np.zeros(N + 16, np.float32)
    _primitives(a, b, c, out, bits, hits, chosen, counts)
    return (a, b, c), out, bits, hits[: bits[1]], chosen[: bits[1]], counts


def test_functions_of_vectors_are_those_of_numpy():
    (a, b, c), out, bits, hits, chosen, counts = primitives()
    same = np.full(N, 1, dtype=np.float32)
    expected = [
        a + b, a - b, a * b, np.maximum(a, b), np.where(a <= b, c, 0), np.sqrt(a * a), np.floor(a),
        np.exp2(np.floor(a)), a[3] * same, b[5] * same,
    ]  # fmt: skip
    for found, row in zip(out, expected, strict=False):
        np.testing.assert_allclose(found, row, rtol=3e-7, atol=0)
    assert out[10, 0] == pytest.approx(a.sum(), rel=1e-6)
    assert bits.tolist() == [np.count_nonzero(a <= b)] * 2
    np.testing.assert_array_equal(hits, np.flatnonzero(a <= b))
    np.testing.assert_array_equal(chosen, c[a <= b])
    np.testing.assert_array_equal(counts, 3 + 2 * np.arange(N))


@jit
def _listed(masks, values, by_bytes, by_default, put_by_bytes, put_by_default):
    n, m = 0, 0
    for k in range(masks.size):
        vectors.append_bytes(masks[k], vectors.load(values, 16 * k), put_by_bytes, n)
        vectors.append_lanes(masks[k], vectors.load(values, 16 * k), put_by_default, m)
        n = vectors.list_bytes(masks[k], 16 * k, by_bytes, n)
        m = vectors.list_bits(masks[k], 16 * k, by_default, m)
    return n, m


def test_bits_are_listed_and_lanes_appended_on_every_processor():
    """By a table of bytes, and by one instruction where the processor has it."""
    chosen = np.random.default_rng(0).random((500, 16)) < np.linspace(0, 1, 500)[:, None]
    masks = chosen @ (1 << np.arange(16, dtype=np.uint64))
    listed = np.zeros((2, chosen.size + 16), dtype=np.int32)
    values, put = np.arange(chosen.size, dtype=np.float32), np.zeros((2, chosen.size + 16), dtype=np.float32)
    found = _listed(masks, values, *listed, *put)
    assert found == (chosen.sum(), chosen.sum())
    for row in (*listed, *put):
        np.testing.assert_array_equal(row[: found[0]], np.flatnonzero(chosen))


@jit
def _exponential(x):
    for k in range(0, x.size, WIDTH):
        store(x, k, simd.exponential(load(x, k)))


def test_the_exponential_is_that_of_numpy_and_never_zero():
    x = np.concatenate([np.linspace(-87, 0, 12 * N - 2), [-200, -1e30]]).astype(np.float32)
    found = x.copy()
    _exponential(found)
    x = np.maximum(x, -87).astype(np.float64)
    # A product of this size is rounded before its fraction is taken.
    np.testing.assert_array_less(np.abs(found / np.exp(x) - 1), 2e-7 - 1.2e-7 * x)


@jit
def _rows(slots, hits, rows, factors, normal, out, above, heads, channels, blocks):
    simd.weighted_rows(
        slots, hits, hits.size, rows, rows.shape[1], factors, 2, normal, out, 0, heads, channels, blocks
    )
    if above.size:
        simd.branched_rows(
            slots, slots.size, rows, rows.shape[1], factors, 2, above, 0, heads, channels, blocks
        )


# Heads, channels of each (0: every head sums whole rows), numbers in a row.
SHAPES = [(0, 0, 10), (1, 0, 5), (3, 0, 17), (4, 8, 32), (3, 7, 21), (3, 7, 24), (5, 2, 10)]


@pytest.mark.parametrize("normal", [False, True])
@pytest.mark.parametrize(("heads", "channels", "width"), SHAPES)
def test_weighted_rows_are_those_of_numpy(heads, channels, width, normal):
    rng = np.random.default_rng(1)
    n, padded = 9, 1 << max(heads - 1, 0).bit_length()
    blocks = dense.whole_registers(width) // WIDTH
    rows = np.zeros((n, blocks * WIDTH), dtype=np.float32)
    rows[:, :width] = rng.normal(size=(n, width))
    factors = rng.random((n, 4, padded)).astype(np.float32)
    slots, hits = rng.permutation(n).astype(np.int32), np.array([0, 3, 3, 8, 5], dtype=np.int32)
    sums = max(heads, 1) if not channels else 1
    out = np.empty(sums * rows.shape[1], dtype=np.float32)
    above = np.empty(2 * out.size if heads else 0, dtype=np.float32)
    sizes = (0,) * heads, (0,) * channels, (0,) * blocks
    _rows(slots, hits, rows, factors, normal, out, above, *sizes)

    def expected(atoms, weights):
        if not heads:
            return rows[atoms].sum(axis=0)[None, :width]
        if not channels:
            return np.einsum("kh,kc->hc", weights, rows[atoms])[:, :width]
        # Behind the channels of the last head comes one more number for every head.
        of = [c // channels if c < heads * channels else c - heads * channels for c in range(width)]
        return (weights[:, of] * rows[atoms][:, :width]).sum(axis=0)[None]

    def factored(atoms):
        e, t, f, u = (factors[:, part, : max(heads, 1)] for part in range(4))
        return e[atoms] * t[2], f[atoms] * u[2]

    atoms = slots[hits]
    first, second = factored(atoms)
    weights = np.maximum(first, second)
    scaled = weights / weights.sum(axis=0) if normal else weights
    np.testing.assert_allclose(
        out.reshape(sums, -1)[:, :width], expected(atoms, scaled), rtol=1e-5, atol=1e-6
    )
    if heads:
        first, second = factored(slots)
        both = [expected(slots, w) for w in (np.maximum(first, second), np.where(first > second, first, 0))]
        found = above.reshape(2, sums, -1)[:, :, :width]
        np.testing.assert_allclose(found, both, rtol=1e-5, atol=1e-6)


@jit
def _tiles(x, weight, out, transposed, rectify):
    for row in range(0, out.shape[0], dense.TILE_ROWS):
        at, length = row * out.shape[1], out.shape[1]
        dense.add_layer(x, row * x.shape[1], len(weight), weight, out, at, length, out, at, rectify)
    dense.add_transposed(x, 0, out, 0, out.shape[0], transposed)


@pytest.mark.parametrize("columns", [16, 48, 64, 80])
@pytest.mark.parametrize("rectify", [False, True])
def test_tiles_are_products_of_matrices(columns, rectify):
    rng = np.random.default_rng(3)
    x, weight = (rng.normal(size=shape).astype(np.float32) for shape in ((18, 20), (13, columns)))
    out, transposed = (rng.normal(size=(n, columns)).astype(np.float32) for n in (18, 20))
    expected = out + x[:, :13] @ weight
    expected = np.maximum(expected, 0) if rectify else expected
    sums = transposed + x.T @ expected
    _tiles(x, weight, out, transposed, rectify)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    np.testing.assert_allclose(transposed, sums, atol=1e-4)
    x[0, 0] = np.nan
    _tiles(x, weight, out, transposed, True)
    assert np.isnan(out[0]).all() and np.isfinite(out[1:]).all()  # a rectifier does not hide it


# Kernels ------------------------------------------------------------------------------------------


def _neighbors(found):
    for name in ("strongly skewed", "open along c", "tiny"):
        frame = AWKWARD[name]()
        graph = neighbor_graph(frame, cutoff=5.3)
        found |= {f"{name}: indptr": graph.indptr, f"{name}: neighbors": graph.neighbors}
        found |= {f"{name}: length": graph.edge_length, f"{name}: shift": graph.edge_shift}
        for k in (3, 60):  # few candidates are sorted, of many the smallest are kept
            for part, values in nearest_neighbors(frame, k)._asdict().items():
                found[f"{name}: {k} nearest, {part}"] = values


def _networks(found):
    rng = np.random.default_rng(2)
    frame = AWKWARD["triclinic"]()
    codes = (np.arange(frame.n_atoms) % len(SPECIES)).astype(np.int32)
    for name, settings in NETWORKS.items():
        config = NetworkConfig(SPECIES, ("Fe",), ("O",), cutoff=5.3, **settings)
        features = node_features(frame, codes, config)
        found[f"{name}: features"] = features
        for scale in (1, 60) if config.architecture == "gat" else (1,):  # 60: beyond products of factors
            weights = {}
            for key, shape in config.weight_shapes().items():
                size = scale if "attention" in key else 0.01 if "neighbors" in key else 1
                weights[key] = (size * rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)
            network = inference.Network(config, Scaling.of(features), [weights])
            found[f"{name}: logits, attention times {scale}"] = network(frame, codes).logits


def _messages(found):
    frame = liquid(70)
    for update, width in (("edges-first", 16), ("parallel", 70)):
        config = BapstConfig(width=width, hidden=20, rounds=2, cutoff=1.5, update=update)
        graph = message_graph(frame, config.cutoff)
        network = MessageNetwork(config, [random_weights(config)])
        found[f"messages: {update}"] = network(graph, frame.species)


def _bundled(found):
    """The default network of every family: the others are other sizes of the same kernels."""
    defaults = {family.default for family in FAMILIES.values()}
    for entry in list_checkpoints():
        if entry.name not in defaults:
            continue
        model = load_model(entry.name)
        if isinstance(model, Fitted) and not model.fitted:
            continue  # it learns from frames, and has no numbers of its own
        recorded = import_module(f"checkpoints.{entry.family}")
        frame = next(iter(recorded.frames(model.checkpoint).values()))
        if model.halo == inf:
            # Whole frames may need simulations, which are chaotic: what is recorded does without.
            found |= {f"{entry.name}: {key}": value for key, value in recorded.outputs(model, frame).items()}
            continue
        output = model.run(frame, model.rule())
        for field in fields(output):
            if isinstance(value := getattr(output, field.name), np.ndarray):
                found[f"{entry.name}: {field.name}"] = value


def _layers(found):
    import torch

    from phaseseg.nn.layers import GraphAttention, GraphConv, Neighbors

    graph = neighbor_graph(AWKWARD["triclinic"](), cutoff=4.0)
    for name, make, inputs in (
        ("narrow attention", lambda: GraphAttention(3, 3, 5), 3),
        ("wide attention", lambda: GraphAttention(20, 3, 5), 20),
        ("sums", lambda: GraphConv(20, 8), 20),
    ):
        torch.manual_seed(0)
        layer = make()
        x = torch.randn(graph.frame.n_atoms, inputs, requires_grad=True)
        layer(x, Neighbors(graph.indptr, graph.neighbors)).square().sum().backward()
        found |= {f"{name}: {key}": values.grad.numpy() for key, values in layer.named_parameters()}
        found[f"{name}: inputs"] = x.grad.numpy()


@cache
def results():
    """What every kernel that uses vectors gives, by name."""
    found = {}
    for part in (_neighbors, _networks, _messages, _bundled, _layers):
        part(found)
    return found


# Bounds -------------------------------------------------------------------------------------------


def _with_far_atom(frame):
    positions = frame.positions.copy()
    positions[0] += (~frame.pbc * 1e6) @ frame.cell
    return frame.replace(positions=positions)


def _variants(frames):
    for make in frames.values():
        yield make()
        if not make().pbc.all():
            yield _with_far_atom(make())
    yield tilted(frames["triclinic"]())


def _label(frame):
    return label_phases(frame, "Fe", phases=2, min_volume=1.0)


def _label_as_paper(frame):
    return label_phases(
        frame, "Fe", phases=2, min_volume=1.0, at="voxel", field="mole-fraction", threshold="two-means"
    )


@jit
def _beyond(values):
    return values[values.size]


def check_bounds():
    """Run the analyses on all awkward frames; IndexError where an index leaves its array."""
    with pytest.raises(IndexError):
        _beyond(np.zeros(3))
    sets = [
        (AWKWARD, [_label, _label_as_paper], ("gat-v1", "gat-3000K-v1", "gcn-3000K-v1")),
        (awkward_frames(("A", "B"), "lj", 0.9, 2, 1.5), [glass_metrics],
         ("dmpnn-v1", "dmpnn-attention-v1", "cnn-v1")),
        (awkward_frames(("A", "B"), "lj", 0.9, 3, 1.5), [glass_metrics], ("dmpnn-3d-v1",)),
    ]  # fmt: skip
    for frames, analyses, names in sets:
        analyses = [*analyses, *(load_model(name).predict for name in names)]
        for frame in _variants(frames):
            for analyze in analyses:
                try:
                    analyze(frame)
                except ValueError as error:  # refused, with a sentence
                    assert len(str(error)) > 20


# The second process -------------------------------------------------------------------------------


def _other_process(arguments, **environment):
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests), *filter(None, sys.path)])
    settings = {"PYTHONPATH": paths, "PHASESEG_SIMD": "0" if SIMD else "1", **environment}
    subprocess.run([sys.executable, "-W", "error", *arguments], check=True, env={**os.environ, **settings})


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """The results of a process that has the other kind of vectors and checks bounds."""
    folder = tmp_path_factory.mktemp("simd")
    path = folder / "results.npz"
    # Loops that check bounds must not come into the usual cache; with less optimization they compile faster.
    settings = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(folder), "NUMBA_OPT": "1"}
    _other_process([__file__, str(path)], **settings)
    with np.load(path) as saved:
        yield dict(saved)


@jit
def _width(found):
    found[0] = WIDTH


@pytest.mark.slow
def test_both_are_compiled_and_kept_apart():
    """In one cache on disk."""
    program = (
        "import numpy as np; from core import test_simd as t; found = np.zeros(1); t._width(found); "
        f"assert found[0] == t.WIDTH != {WIDTH}, found"
    )
    for _ in range(2):  # compiled, and from the cache
        found = np.zeros(1)
        _width(found)
        assert found[0] == WIDTH
        _other_process(["-c", program])


@pytest.mark.slow
def test_kernels_give_the_same_with_and_without_vectors(others):
    assert {WIDTH, int(others["WIDTH"])} == {1, 16}
    assert set(others) - {"WIDTH"} == set(results())
    for name, values in results().items():
        other = others[name]
        assert (other.dtype, other.shape) == (values.dtype, values.shape), name
        if values.dtype.kind != "f":
            np.testing.assert_array_equal(other, values, err_msg=name)
            continue
        size = np.abs(values[np.isfinite(values)]).max(initial=0)
        tolerance = SAME * (20 if "times 60" in name else 1)  # scores of some hundred, rounded to 1e-5
        np.testing.assert_allclose(other, values, rtol=0, atol=tolerance * size, err_msg=name)


if __name__ == "__main__":
    check_bounds()
    np.savez(sys.argv[1], WIDTH=WIDTH, **results())
