"""Naive twins of the descriptors and learners of the family mobility: all pairs and images, in float64."""

from __future__ import annotations

import numpy as np
from scipy.special import eval_legendre

from naive.fields import image_shifts


def vectors_within(frame, cutoff):
    """For every particle the vectors to all images within the cutoff, and the particles they belong to."""
    inverse = np.linalg.inv(frame.cell)
    shifts = image_shifts(frame.cell, frame.pbc, cutoff)
    for i, position in enumerate(frame.positions):
        apart = (frame.positions - position) @ inverse
        apart = (apart - np.rint(apart) * frame.pbc) @ frame.cell
        every = apart[:, None] + shifts
        r2 = (every**2).sum(axis=-1)
        # The particle itself is not its neighbor, but its images are.
        r2[i, np.abs(shifts).sum(axis=1) == 0] = np.inf
        j, k = np.nonzero(r2 <= cutoff**2)
        yield i, j, every[j, k]


def radial(frame, codes, n_types=2):
    near, far = 0.75 + 0.025 * np.arange(50), 2.0 + 0.1 * np.arange(28)
    centers, widths = np.r_[near, far], np.r_[np.full(50, 0.025), np.full(28, 0.1)]
    out = np.zeros((frame.n_atoms, n_types, 78))
    for i, j, vectors in vectors_within(frame, 5.0):
        r = np.linalg.norm(vectors, axis=1)
        gaussians = np.exp(-((r[:, None] - centers) ** 2) / (2 * widths**2))
        for kind in range(n_types):
            out[i, kind] = gaussians[np.asarray(codes)[j] == kind].sum(axis=0)
    return out.reshape(frame.n_atoms, -1)


def bond_order(frame):
    """By the addition theorem: the sum of |q_lm|^2 over m is one of Legendre polynomials over pairs."""
    out = np.zeros((frame.n_atoms, 3, 6))
    for i, _, vectors in vectors_within(frame, 2.9):
        r = np.linalg.norm(vectors, axis=1)
        vectors, r = vectors[r > 0], r[r > 0]
        cosines = np.clip((vectors / r[:, None]) @ (vectors / r[:, None]).T, -1, 1)
        for k, degree in enumerate((2, 3, 4, 5, 6, 8)):
            of_pairs = eval_legendre(degree, cosines)
            for s, c in enumerate((1.1, 1.5, 1.9)):
                w = np.exp(-((r - c) ** 2) / (2 * 0.2**2))
                if len(r):
                    out[i, s, k] = np.sqrt(max(w @ of_pairs @ w, 0)) / w.sum()
    return out.reshape(frame.n_atoms, -1)


def averaged(frame, values):
    out = np.zeros_like(values, dtype=float)
    for i, j, vectors in vectors_within(frame, 2.1):
        w = np.exp(-np.linalg.norm(vectors, axis=1) / 2.1)
        out[i] = (values[i] + w @ values[j]) / (1 + w.sum())
    return out


def filtered(frame, codes, values):
    """Sums over the shells up to 1.45 and 2.2, over A and over B, side by side."""
    n, width = values.shape
    out = np.zeros((n, 2, 2, width))
    for i, j, vectors in vectors_within(frame, 2.2):
        r = np.linalg.norm(vectors, axis=1)
        for shell in range(2):
            for kind, scale in enumerate((2 / 13, 2 / 3)):
                chosen = ((r > 1.45) == shell) & (np.asarray(codes)[j] == kind)
                out[i, shell, kind] = scale * np.exp(-r[chosen] / 2.1) @ values[j[chosen]]
    return out.reshape(n, -1)
