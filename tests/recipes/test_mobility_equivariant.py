"""The trial of an equivariant network: its answer does not depend on the orientation of the system."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from phaseseg import Frame

torch = pytest.importorskip("torch")

from phaseseg.recipes.mobility import equivariant  # noqa: E402


def rotation(rng):
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


def test_turning_the_system_changes_nothing_and_vectors_matter():
    rng = np.random.default_rng(0)
    positions, codes = rng.uniform(0, 5, (120, 3)), rng.integers(0, 2, 120).astype(np.int32)
    scalars, vectors = rng.normal(size=(120, 6)), rng.normal(size=(120, 3, 2))
    torch.manual_seed(0)
    network = equivariant.EquivariantNetwork(6, 2).eval()
    torch.nn.init.normal_(network.output.weight)

    def outputs(turn, vectors=vectors):
        frame = Frame(positions @ turn.T, np.eye(3) * 50, False, codes, ("A", "B"), units="lj")
        inputs = (torch.from_numpy(values.astype(np.float32)) for values in (
            scalars, np.einsum("ab,nbc->nac", turn, vectors)))  # fmt: skip
        with torch.no_grad():
            return network(*inputs, equivariant.Operators.of(frame, codes)).numpy()

    plain = outputs(np.eye(3))
    assert plain.std() > 0.01
    assert_allclose(outputs(rotation(rng)), plain, atol=1e-4 * plain.std())
    assert np.abs(outputs(np.eye(3), vectors[::-1]) - plain).max() > 0.01 * plain.std()


def test_operators_are_sums_over_neighbors():
    rng = np.random.default_rng(1)
    positions, codes = rng.uniform(0, 4, (40, 3)), rng.integers(0, 2, 40).astype(np.int32)
    frame = Frame(positions, np.eye(3) * 50, False, codes, ("A", "B"), units="lj")
    operators = equivariant.Operators.of(frame, codes)
    rows, vectors = rng.normal(size=(40, 2)), rng.normal(size=(40, 3, 2))
    sums, slopes, traces = np.zeros((40, 4, 2)), np.zeros((40, 3, 4, 2)), np.zeros((40, 4, 2))
    for i in range(40):
        for j in range(40):
            step = positions[j] - positions[i]
            r = np.linalg.norm(step)
            if i == j or r >= 2.2:
                continue
            k = 2 * int(r >= 1.45) + codes[j]
            w = np.exp(-r / 2.1) * (2 / 13, 2 / 3)[codes[j]]
            sums[i, k] += w * rows[j]
            slopes[i, :, k] += w * np.outer(step / r, rows[j])
            traces[i, k] += w * (step / r) @ vectors[j]

    def tensor(values):
        return torch.from_numpy(values.astype(np.float32))

    assert_allclose(operators.summed(tensor(rows)).numpy(), sums, atol=1e-5)
    assert_allclose(operators.gradients(tensor(rows)).numpy(), slopes.reshape(40, 3, 8), atol=1e-5)
    assert_allclose(operators.divergences(tensor(vectors)).numpy(), traces.reshape(40, 8), atol=1e-5)
