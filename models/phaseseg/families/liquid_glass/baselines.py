"""Baselines without a network: energies, the first peak of g(r), the three metrics.

Each measures one to three numbers of a whole configuration or a window. A logistic regression on them,
fitted to configurations of known state, distinguishes glass from liquid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.liquid_glass.states import number_of
from phaseseg.families.liquid_glass.structural_metrics import Rule, glass_metrics
from phaseseg.frame import Frame
from phaseseg.neighbors import neighbor_graph

Floats = NDArray[np.float64]

BIN = 0.05
"""Bin width of the distances, σ. Narrower bins are too noisy in windows of a hundred particles."""
BEYOND = 1.5
"""Upper end of the histogram, σ; it lies beyond the first peak of the mixture."""
RIDGE = 1e-3
"""Weight of the ridge penalty, which keeps the regression finite if the states do not overlap."""

# ε and σ of the pairs A-A, A-B and B-B of the Kob-Andersen mixture, and the cutoff in σ of the pair.
_EPSILON = np.array([[1.0, 1.5], [1.5, 0.5]])
_SIGMA = np.array([[1.0, 0.8], [0.8, 0.88]])
_CUTOFF = 2.5


# Numbers ------------------------------------------------------------------------------------------


class RadialDistribution(NamedTuple):
    """g(r) of all pairs: `r` (n_bins,) σ, the bin centers, and `g` (n_bins,)."""

    r: Floats
    g: Floats


def radial_distribution(frame: Frame, *, width: float = BIN, beyond: float = BEYOND) -> RadialDistribution:
    """Compute the radial distribution function of all pairs, in linear time.

    g = n(r) / (N ρ v(r) c(r)): n directed pairs whose distance is in the bin, v its area (in two dimensions)
    or volume, ρ = N over that of the cell, and c the fraction of pairs at a distance r that open
    boundaries leave: of a rectangle with edges a and b it is 1 - 2 r (1/a + 1/b) / π + r² / (π a b), of a box
    1 - r (1/a + 1/b + 1/c) / 2 + 2 r² (1/ab + 1/bc + 1/ca) / 3π - r³ / (4 π abc), with 1/a = 0 along
    periodic axes. Windows and whole cells therefore have the same g(r). Open axes must be perpendicular to
    the others, and distances must be shorter than open edges.

    width, beyond : σ, of a bin, and the end of the last one, rounded up to whole bins

    >>> rng = np.random.default_rng(0)
    >>> gas = Frame(rng.random((4000, 3)) * [20, 20, 0], [20, 20, 1], (True, False, False), ["A"] * 4000)
    >>> bool(np.abs(radial_distribution(gas, width=0.5).g - 1).max() < 0.05)
    True
    """
    if not (width > 0 and beyond > 0):
        raise ValueError(f"bins and their end must be positive, found {width:g} and {beyond:g}.")
    n_bins = max(int(np.ceil(beyond / width - 1e-9)), 1)
    dimensions = frame.n_dimensions
    edges = width * np.arange(n_bins + 1)
    r = 0.5 * (edges[1:] + edges[:-1])
    if not frame.n_atoms:
        return RadialDistribution(r, np.zeros(n_bins))
    lengths = neighbor_graph(_in_the_plane(frame), cutoff=n_bins * width).edge_length
    counts = np.bincount(np.minimum((lengths / width).astype(np.int64), n_bins - 1), minlength=n_bins)
    heights = 1 / np.linalg.norm(np.linalg.inv(frame.cell), axis=0)[:dimensions]
    density = frame.n_atoms / (frame.volume / (np.linalg.norm(frame.cell[2]) if dimensions == 2 else 1))
    shells = np.diff(np.pi * edges**2 if dimensions == 2 else 4 / 3 * np.pi * edges**3)
    inside = _inside(r, np.where(frame.pbc[:dimensions], 0.0, 1 / heights))
    return RadialDistribution(r, counts / (frame.n_atoms * density * shells * np.maximum(inside, 1e-9)))


def _in_the_plane(frame: Frame) -> Frame:
    """Make a two-dimensional frame open across its plane, regardless of the file."""
    return frame.replace(pbc=frame.pbc & (np.arange(3) < frame.n_dimensions))


def _inside(r: Floats, a: Floats) -> Floats:
    """Fraction of pairs inside open boundaries; a : one over the edge of each axis, 0 if periodic."""
    if len(a) == 2:
        return np.asarray(1 - 2 * r * a.sum() / np.pi + r**2 * a.prod() / np.pi)
    pairs = a[0] * a[1] + a[1] * a[2] + a[2] * a[0]
    return np.asarray(1 - r * a.sum() / 2 + 2 * r**2 * pairs / (3 * np.pi) - r**3 * a.prod() / (4 * np.pi))


def kob_andersen_energies(frame: Frame, b: str | Sequence[str] = "B") -> Floats:
    """(n_atoms,) potential energy of each particle of a Kob-Andersen mixture, in ε of two A.

    Half of that of its pairs: 4 ε ((σ/r)^12 - (σ/r)^6) with ε of A-A, A-B and B-B 1, 1.5 and 0.5, σ 1, 0.8
    and 0.88 (DOI 10.1103/PhysRevE.51.4626), cut at 2.5 σ of the pair and not shifted.

    b : species that are B
    """
    is_b = frame.species_mask(b)
    graph = neighbor_graph(_in_the_plane(frame), cutoff=float(_CUTOFF * _SIGMA.max()))
    i, j = graph.edge_index
    one, two = is_b[i].astype(np.int64), is_b[j].astype(np.int64)
    ratio = _SIGMA[one, two] / graph.edge_length
    sixth = np.where(ratio >= 1 / _CUTOFF, ratio, 0.0) ** 6
    energy = 4 * _EPSILON[one, two] * (sixth**2 - sixth)
    return np.bincount(i, 0.5 * energy, minlength=frame.n_atoms).astype(np.float64)


def first_peak(frame: Frame) -> tuple[float, ...]:
    """The height of the first peak of g(r): its maximum before 1.5 σ, in bins of 0.05 σ."""
    return (float(radial_distribution(frame).g.max()),)


def three_metrics(
    frame: Frame, *, b: str | Sequence[str] = "B", k: int = 2, rule: Rule = "all"
) -> tuple[float, ...]:
    """Disjoint graphs, B-B edges and isolated A per particle; see `glass_metrics`.

    A configuration of one species, or of at most k particles, has no edges: 0, 0 and the fraction of A.
    """
    names = (b,) if isinstance(b, str) else tuple(b)
    is_b = np.array([name in names for name in frame.species_names], dtype=bool)[frame.species]
    if not is_b.any() or is_b.all() or frame.n_atoms <= k:
        return (0.0, 0.0, float(np.mean(~is_b)) if frame.n_atoms else 0.0)
    fields = glass_metrics(frame, b, k, rule)
    names = ("disjoint_graphs_per_particle", "bb_edges_per_particle", "isolated_a_per_particle")
    return tuple(float(fields[name]) for name in names)


# Methods ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Baseline:
    """Numbers of a configuration and, once fitted, a logistic regression on them; higher means glass.

    name : heading of its row
    numbers : of a frame
    regression : pipeline of scikit-learn; None until it is fitted
    """

    name: str
    numbers: Callable[[Frame], Sequence[float]]
    regression: Any = None

    def measure(self, frames: Iterable[Frame]) -> Floats:
        """(n_frames, n_numbers)."""
        return np.array([tuple(self.numbers(frame)) for frame in frames], dtype=np.float64)

    def fit(self, x: ArrayLike, glass: ArrayLike) -> Baseline:
        """Return a copy with a regression fitted to configurations of known state.

        The fit minimizes the mean of log(1 + exp(-s (w z + b))) + `RIDGE` w² / 2 with s = ±1 and the
        standardized numbers z. A number that does not vary has no weight.

        x : (n, n_numbers) finite; glass : (n,) bool, with both values present
        """
        try:
            from sklearn import linear_model, pipeline, preprocessing
        except ImportError:
            raise ImportError(
                "baselines need scikit-learn, which is not installed; it comes with "
                "pip install 'ovito-phaseseg[train]'."
            ) from None
        states = np.asarray(glass, dtype=bool)
        if not states.any() or states.all():
            raise ValueError("a regression needs configurations of both liquid and glass.")
        regression = linear_model.LogisticRegression(C=1 / (RIDGE * len(states)), tol=1e-8, max_iter=1000)
        made = pipeline.make_pipeline(preprocessing.StandardScaler(), regression)
        return replace(self, regression=made.fit(np.asarray(x, dtype=np.float64), states))

    def logits(self, x: ArrayLike) -> Floats:
        """(n,) logits of glass from numbers (n, n_numbers); needs a fitted regression."""
        if self.regression is None:
            raise ValueError(f"the baseline {self.name!r} has not been fitted; call fit first.")
        return np.asarray(self.regression.decision_function(np.asarray(x, dtype=np.float64)))


POTENTIAL_ENERGY = Baseline("potential energy", lambda frame: (number_of(frame, "potential_energy"),))
INHERENT_ENERGY = Baseline("inherent energy", lambda frame: (number_of(frame, "inherent_energy"),))
FIRST_PEAK = Baseline("first peak of g(r)", first_peak)
THREE_METRICS = Baseline("three metrics", three_metrics)
BASELINES = (POTENTIAL_ENERGY, INHERENT_ENERGY, FIRST_PEAK, THREE_METRICS)
"""Baselines on energies per particle, which are read from `Frame.info`."""
