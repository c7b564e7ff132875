"""Basis functions of linear potentials: power spectra, products of their principal components, constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.projection import fit_projection
from phaseseg.frame import Frame
from phaseseg.neighbors.graph import neighbor_graph
from phaseseg.specs import Progress

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

COULOMB = 14.399645
"""e^2 / (4 π ε0), eV Å."""
BOHR = 0.52917721
"""Å."""
SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
"""Weights and decay rates of the universal screening function."""
MOST_FITTED = 20_000
"""Atoms of a species that its principal components are fitted on; of more, evenly spaced ones."""


@dataclass(frozen=True)
class Repulsion:
    """The screened repulsion of nuclei by Ziegler, Biersack and Littmark (ZBL), a baseline without a fit.

    It falls smoothly to zero between `inner` and `outer`, Å, so that it only acts where data sets have few
    examples. Species that are not elements feel none.

    References
    ----------
    Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Solids (Pergamon, 1985).
    """

    inner: float = 1.0
    outer: float = 2.5

    def __post_init__(self) -> None:
        if not 0 <= self.inner < self.outer < float("inf"):
            raise ValueError(f"a repulsion needs 0 <= inner < outer, found {self.inner} and {self.outer}.")

    def __call__(self, frame: Frame) -> tuple[Doubles, Doubles]:
        """Return (n_atoms,) energies, eV, half of each pair an atom, and (n_atoms, 3) forces, eV/Å."""
        graph = neighbor_graph(frame, cutoff=self.outer)
        charges = _charges(frame.species_names)[frame.species]
        i, j = np.repeat(np.arange(frame.n_atoms), np.diff(graph.indptr)), graph.neighbors
        vectors = graph.edge_vector
        r = np.maximum(np.sqrt((vectors**2).sum(axis=1)), 1e-6)
        length = 0.8854 * BOHR / np.maximum(charges[i] ** 0.23 + charges[j] ** 0.23, 1e-6)
        strength, screened, slope = COULOMB * charges[i] * charges[j] / r, np.zeros(len(r)), np.zeros(len(r))
        for weight, rate in SCREENING:
            part = weight * np.exp(-rate * r / length)
            screened += part
            slope -= rate / length * part
        t = np.clip((r - self.inner) / (self.outer - self.inner), 0, 1)
        fall = 1 - t**3 * (10 - 15 * t + 6 * t**2)
        falling = -30 * t**2 * (1 - t) ** 2 / (self.outer - self.inner)
        energy = strength * screened * fall
        force = strength * ((slope - screened / r) * fall + screened * falling) / r
        # Every pair is listed in both directions: each direction carries the force on its first atom.
        energies = 0.5 * np.bincount(i, energy, frame.n_atoms)
        forces = np.stack([np.bincount(i, force * vectors[:, x], frame.n_atoms) for x in range(3)], axis=1)
        return np.asarray(energies, dtype=np.float64), np.asarray(forces, dtype=np.float64)


def _charges(names: tuple[str, ...]) -> Doubles:
    from ase.data import atomic_numbers

    return np.array([float(atomic_numbers.get(name, 0)) for name in names])


@dataclass(frozen=True, eq=False)
class Basis:
    """Basis functions of each species: its features and the products of their first principal components.

    descriptor : with its species
    axes : (n_species, n_features, d), of the components; shifts : (n_species, d), subtracted from them
    means, factors : (n_functions,), means and inverse spreads of the functions over the atoms of their
        species, so that one ridge penalty suits all; 0 for a constant function, which is left out. The
        functions of one species are side by side
    repulsion : a baseline that is added, or None
    """

    descriptor: PowerSpectrum
    axes: Doubles
    shifts: Doubles
    means: Doubles
    factors: Doubles
    repulsion: Repulsion | None

    @property
    def species(self) -> tuple[str, ...]:
        return self.descriptor.species

    @property
    def n_functions(self) -> int:
        return len(self.means)

    @cached_property
    def _pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        return np.triu_indices(self.axes.shape[2])

    def functions(self, features: Doubles, codes: NDArray[np.int32]) -> Doubles:
        """Return (n_atoms, n_functions / n_species) values of the functions of the species of each atom."""
        points = self.points(features, codes)
        a, b = self._pairs
        return np.concatenate([features, points[:, a] * points[:, b]], axis=1)

    def points(self, features: Doubles, codes: NDArray[np.int32]) -> Doubles:
        """Return (n_atoms, d) the principal components."""
        points = np.empty((len(features), self.axes.shape[2]))
        for kind in np.unique(codes):
            own = codes == kind
            points[own] = features[own] @ self.axes[kind] - self.shifts[kind]
        return points

    def energy_rows(self, frame: Frame) -> tuple[Doubles, Doubles]:
        """Return (n_functions,) scaled sums over the atoms, and (n_species,) numbers of atoms."""
        codes = self.descriptor.codes(frame)
        values = self.functions(self.descriptor(frame), codes)
        n_species = len(self.species)
        counts = np.bincount(codes, minlength=n_species).astype(float)
        sums = np.zeros((n_species, values.shape[1]))
        np.add.at(sums, codes, values)
        means = self.means.reshape(n_species, -1)
        return (sums - counts[:, None] * means).ravel() * self.factors, counts

    def force_rows(self, frame: Frame) -> Doubles:
        """Return (n_atoms, 3, n_functions) scaled forces of every function."""
        codes = self.descriptor.codes(frame)
        points = self.points(self.descriptor(frame), codes)
        return self.descriptor.force_rows(frame, self.axes, points) * self.factors

    def energies(self, frame: Frame, coefficients: Doubles) -> Doubles:
        """Return (n_atoms,) scaled coefficients times functions, without constants and repulsion."""
        codes = self.descriptor.codes(frame)
        n_species = len(self.species)
        values = self.functions(self.descriptor(frame), codes) - self.means.reshape(n_species, -1)[codes]
        weights = (coefficients * self.factors).reshape(n_species, -1)
        return np.asarray(np.einsum("if,if->i", values, weights[codes]))

    def forces(self, frame: Frame, coefficients: Doubles) -> Doubles:
        """Return (n_atoms, 3) forces of the coefficients times functions, without repulsion."""
        codes = self.descriptor.codes(frame)
        features, n_species, n = self.descriptor(frame), len(self.species), self.descriptor.n_features
        points = self.points(features, codes)
        weights = (coefficients * self.factors).reshape(n_species, -1)
        d = self.axes.shape[2]
        squares = np.zeros((n_species, d, d))
        squares[:, self._pairs[0], self._pairs[1]] = weights[:, n:]
        squares += squares.transpose(0, 2, 1)
        slopes = np.empty_like(features)
        for kind in np.unique(codes):
            own = codes == kind
            slopes[own] = weights[kind, :n] + points[own] @ squares[kind] @ self.axes[kind].T
        return self.descriptor.forces(frame, slopes)

    def baseline(self, frame: Frame) -> tuple[float, Doubles]:
        """Return energy and (n_atoms, 3) forces of the repulsion."""
        if self.repulsion is None:
            return 0.0, np.zeros((frame.n_atoms, 3))
        energies, forces = self.repulsion(frame)
        return float(energies.sum()), forces


def fit_basis(
    frames: Sequence[Frame], descriptor: PowerSpectrum, n_products: int, repulsion: Repulsion | None,
    progress: Progress | None = None,
) -> Basis:  # fmt: skip
    """Fit principal components, means and scales on the atoms of the frames, each species for itself.

    n_products : number of principal components whose products are functions; 0 for a potential linear in the
        features
    """
    if isinstance(n_products, bool) or not isinstance(n_products, (int, np.integer)) or n_products < 0:
        raise ValueError(f"n_products must be a whole number from 0 on, found {n_products!r}.")
    n_species, n = len(descriptor.species), descriptor.n_features
    features, codes = [], []
    for k, frame in enumerate(frames):
        features.append(descriptor(frame))
        codes.append(descriptor.codes(frame))
        if progress is not None:
            progress(k / len(frames), "descriptors")
    every, of = np.concatenate(features), np.concatenate(codes)
    d = min(int(n_products), n)
    axes, shifts = np.zeros((n_species, n, d)), np.zeros((n_species, d))
    for kind in range(n_species):
        own = every[of == kind]
        if d and len(own) > 1:
            found = fit_projection(own[:: max(len(own) // MOST_FITTED, 1)], d, compress=False)
            m = found.axes.shape[1]
            spread = np.sqrt(np.maximum(found.explained[:m], 1e-12) * n)
            axes[kind, :, :m] = found.axes / spread
            shifts[kind, :m] = found.center @ axes[kind, :, :m]
    width = n + d * (d + 1) // 2
    basis = Basis(
        descriptor, axes, shifts, np.zeros(n_species * width), np.ones(n_species * width), repulsion
    )
    values = basis.functions(every, of)
    means, factors = np.zeros((n_species, width)), np.zeros((n_species, width))
    for kind in range(n_species):
        own = values[of == kind]
        if len(own):
            means[kind], spread = own.mean(axis=0), own.std(axis=0)
            varies = spread > 1e-9 * np.maximum(np.abs(means[kind]), 1e-3)
            factors[kind, varies] = 1 / spread[varies]
    return Basis(descriptor, axes, shifts, means.ravel(), factors.ravel(), repulsion)
