"""The power spectrum of the density around every atom: SOAP with radial functions of Gaussian type."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import factorial, pi, prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import sqrtm
from scipy.special import gamma

from phaseseg.compiled.threads import for_each
from phaseseg.families.environments.descriptor_gradients import contracted_forces, force_rows
from phaseseg.families.environments.descriptor_kernels import power_spectra
from phaseseg.families.environments.rules import LARGEST_CUTOFF
from phaseseg.frame import Frame
from phaseseg.neighbors.bins import sort_into_bins
from phaseseg.neighbors.graph import neighbor_graph

Doubles = NDArray[np.float64]

STEPS = 4096
"""Steps of the tables of radial functions, in r^2; interpolation is good to 1e-11 of the largest value."""
DECAYED = 1e-3
"""The radial function n is r^l exp(-alpha r^2) that has fallen to this value at the n-th of its radii."""
FIRST_RADIUS = 1.0
"""Å; the radii go from here to the cutoff in equal steps."""


@dataclass(frozen=True)
class PowerSpectrum:
    """A power spectrum with its settings: call it with a frame.

    The density of a species around an atom is a sum of Gaussians exp(-|r - r_j|^2 / 2 width^2) over its
    neighbors of that species, each times f(r_j), and the atom itself. Its coefficients are
    c_znlm = ∫ ρ_z(r) g_nl(r) Y_lm(r) dr, and the features are

        p = π sqrt(8 / (2l + 1)) Σ_m c_znlm c_z'n'lm

    for all pairs (z, n) <= (z', n') and l = 0 ... l_max. The radial functions g_nl are orthonormal
    combinations (Löwdin) of r^l exp(-α r^2). The features do not depend on rotations, reflections, the order
    of the atoms or the choice of the cell.

    Parameters
    ----------
    species : names of the species, in the order of the features
    cutoff : Å, up to 20
    n_max : number of radial functions
    l_max : largest degree
    width : Å, of the Gaussians
    taper : Å; f falls from 1 at cutoff - taper to 0 at the cutoff as 1 - t^3 (10 - 15 t + 6 t^2), with two
        continuous derivatives

    Raises
    ------
    ValueError
        For settings out of range; when called, for a species of the frame that is not among `species`, and
        for what `phaseseg.neighbors.sort_into_bins` refuses.

    References
    ----------
    Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013), doi:10.1103/PhysRevB.87.184115;
    Himanen et al., Comput. Phys. Commun. 247, 106949 (2020), doi:10.1016/j.cpc.2019.106949 (radial
    functions).

    >>> from phaseseg import Frame
    >>> bcc = Frame([[0.0, 0, 0], [1.65, 1.65, 1.65]], [3.3] * 3, True, ["Ta", "Ta"])
    >>> rows = PowerSpectrum(("Ta",))(bcc)
    >>> rows.shape, bool(np.allclose(rows[0], rows[1]))
    ((2, 50), True)
    """

    species: tuple[str, ...]
    cutoff: float = 5.0
    n_max: int = 4
    l_max: int = 4
    width: float = 0.5
    taper: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "species", tuple(self.species))
        if not self.species or len(set(self.species)) != len(self.species):
            raise ValueError(f"species must be one or more distinct names, found {self.species}.")
        if not FIRST_RADIUS < self.cutoff <= LARGEST_CUTOFF:
            raise ValueError(
                f"cutoff must be a length above {FIRST_RADIUS:g} Å and up to {LARGEST_CUTOFF:g} Å, found "
                f"{self.cutoff:g}."
            )
        for name, lowest, highest in (("n_max", 1, 12), ("l_max", 0, 12)):
            value = getattr(self, name)
            if not isinstance(value, int) or not lowest <= value <= highest:
                raise ValueError(
                    f"{name} must be a whole number from {lowest} to {highest}, found {value!r}."
                )
        if not 0 < self.width < float("inf"):
            raise ValueError(f"width must be a positive length in Å, found {self.width}.")
        if not 0 < self.taper <= self.cutoff:
            raise ValueError(
                f"taper must be between 0 and the cutoff of {self.cutoff:g} Å, found {self.taper}."
            )

    @property
    def n_features(self) -> int:
        channels = len(self.species) * self.n_max
        return channels * (channels + 1) // 2 * (self.l_max + 1)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns, `Fe1-O2 l=3` for the radial functions 1 and 2 of Fe and O."""
        channels = [f"{name}{n + 1}" for name in self.species for n in range(self.n_max)]
        pairs = [(a, b) for i, a in enumerate(channels) for b in channels[i:]]
        return tuple(f"{a}-{b} l={degree}" for a, b in pairs for degree in range(self.l_max + 1))

    def of_all_neighbors(self, rows: Doubles) -> Doubles:
        """Return the spectra (n_atoms, m) of the density of all neighbors, whatever their species.

        rows : (n_atoms, n_features); m is `n_features` of one species
        """
        channels = len(self.species) * self.n_max
        first, second = np.triu_indices(channels)
        pairs = np.stack([first % self.n_max, second % self.n_max])
        # A pair of different channels with the same radial function stands for both of its orders.
        weights = np.where((pairs[0] == pairs[1]) & (first != second), 2.0, 1.0)
        pairs.sort(axis=0)
        by_pair = rows.reshape(len(rows), len(first), self.l_max + 1)
        found = []
        for a, b in zip(*np.triu_indices(self.n_max), strict=True):
            own = np.flatnonzero((pairs[0] == a) & (pairs[1] == b))
            found.append(np.tensordot(by_pair[:, own], weights[own], axes=(1, 0)))
        return np.concatenate(found, axis=1)

    def __call__(self, frame: Frame) -> Doubles:
        """Return (n_atoms, n_features) float64. Time is linear in the number of atoms.

        An atom without neighbors has the features of its own Gaussian.
        """
        codes = self.codes(frame)
        out = np.zeros((frame.n_atoms, self.n_features))
        if not frame.n_atoms:
            return out
        bins = sort_into_bins(frame, self.cutoff, codes, len(self.species))
        per_step, (norms, factors) = STEPS / self.cutoff**2, _norms(self.l_max)
        settings = _table(self), per_step, self.taper, self.n_max, self.l_max, norms, factors
        for_each(lambda part: power_spectra(*part, bins, *settings, out), bins.parts(256))
        return out

    def alone(self, rows: Doubles, codes: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return (n_atoms,) which atoms have no neighbor: their features are those of their own Gaussian.

        rows : (n_atoms, n_features); codes : (n_atoms,) as from `codes`
        """
        found = np.zeros(len(rows), dtype=bool)
        for code in np.unique(codes).tolist():
            single = _single(self, self.species[code])
            largest = int(single.argmax())
            error = 1e-9 * single[largest]
            # One feature excludes nearly all others.
            likely = np.flatnonzero((codes == code) & (np.abs(rows[:, largest] - single[largest]) <= error))
            found[likely] = np.abs(rows[likely] - single).max(axis=1) <= error
        return found

    def forces(self, frame: Frame, slopes: ArrayLike) -> Doubles:
        """Return (n_atoms, 3) minus the derivatives of a sum over atoms with respect to their positions.

        slopes : (n_atoms, n_features), derivatives of the term of each atom with respect to its features
        """
        values = np.ascontiguousarray(slopes, dtype=np.float64)
        if values.shape != (frame.n_atoms, self.n_features):
            raise ValueError(
                f"slopes must have shape {(frame.n_atoms, self.n_features)}, found {values.shape}."
            )
        out = np.zeros((frame.n_atoms, 3))
        contracted_forces(*self._neighbors(frame), values, out)
        return out

    def force_rows(self, frame: Frame, axes: Doubles, points: Doubles) -> Doubles:
        """Return the forces of every basis function of a linear potential, summed over the atoms.

        The basis functions of an atom are its features, then the products y_a y_b, a <= b, of the coordinates
        y = features @ axes + constant of its species.

        axes : (n_species, n_features, d); points : (n_atoms, d), the coordinates y

        Returns
        -------
        (n_atoms, 3, n_species * (n_features + d (d + 1) / 2)), the columns of one species side by side
        """
        d = axes.shape[2]
        out = np.zeros((frame.n_atoms, 3, len(self.species) * (self.n_features + d * (d + 1) // 2)))
        axes, points = np.ascontiguousarray(axes), np.ascontiguousarray(points)
        force_rows(*self._neighbors(frame), axes, points, out)
        return out

    def radial(self, u: Any, *, slope: bool = False) -> Doubles:
        """Return ∫ exp(-|x - r|^2 / 2 width^2) g_nl(x) Y_lm(x) dx / (r^l Y_lm(r)) or its slope over r^2.

        u : (...) Å^2, squares of r

        Returns
        -------
        (..., n_max, l_max + 1)
        """
        u = np.asarray(u, dtype=np.float64)
        a = 1 / (2 * self.width**2)
        radii = np.linspace(FIRST_RADIUS, self.cutoff, self.n_max)
        out = np.empty((*u.shape, self.n_max, self.l_max + 1))
        for degree in range(self.l_max + 1):
            alpha = -np.log(DECAYED / radii**degree) / radii**2
            overlap = 0.5 * gamma(degree + 1.5) / np.add.outer(alpha, alpha) ** (degree + 1.5)
            rate = a * alpha / (a + alpha)
            smeared = (pi / (a + alpha)) ** 1.5 * (a / (a + alpha)) ** degree * np.exp(-rate * u[..., None])
            out[..., degree] = (-rate * smeared if slope else smeared) @ np.real(
                sqrtm(np.linalg.inv(overlap))
            )
        return out

    def _neighbors(self, frame: Frame) -> tuple[Any, ...]:
        """What the kernels of derivatives need: the neighbors, the species and the settings."""
        graph = neighbor_graph(frame, cutoff=self.cutoff)
        spectrum = (_table(self), STEPS / self.cutoff**2, float(self.cutoff), float(self.taper), self.n_max,
                    self.l_max, *_norms(self.l_max))  # fmt: skip
        return (graph.indptr, graph.neighbors, graph.edge_vector), self.codes(frame), spectrum

    def codes(self, frame: Frame) -> NDArray[np.int32]:
        """Return (n_atoms,) places of the atoms' species among `species`; ValueError for another one."""
        places = {name: code for code, name in enumerate(self.species)}
        present = [frame.species_names[code] for code in np.unique(frame.species)]
        if unknown := [name for name in present if name not in places]:
            raise ValueError(
                f"{frame.error_prefix}the frame has {', '.join(unknown)}, but the descriptor knows only "
                f"{', '.join(self.species)}. Fit or choose a descriptor with these species."
            )
        lookup = np.array([places.get(name, -1) for name in frame.species_names], dtype=np.int32)
        return lookup[frame.species]


@lru_cache
def _single(settings: PowerSpectrum, species: str) -> Doubles:
    """(n_features,) of an atom without neighbors."""
    frame = Frame(np.zeros((1, 3)), np.eye(3), np.zeros(3, dtype=bool), np.zeros(1, np.int32), (species,))
    return np.asarray(settings(frame)[0])


@lru_cache(maxsize=16)
def _table(settings: PowerSpectrum) -> Doubles:
    """(STEPS + 1, 2, columns): the radial functions over r^2, and their slopes times a step."""
    u = np.linspace(0, settings.cutoff**2, STEPS + 1)
    both = [settings.radial(u), settings.radial(u, slope=True) * u[1]]
    return np.ascontiguousarray(np.stack([part.reshape(STEPS + 1, -1) for part in both], axis=1))


@lru_cache
def _norms(l_max: int) -> tuple[Doubles, Doubles]:
    """Norms of the real solid harmonics in the order of the kernel, and π sqrt(8 / (2l + 1))."""
    norms = np.zeros((l_max + 1) ** 2)
    for degree in range(l_max + 1):
        for m in range(degree + 1):
            odd = prod(range(1, 2 * m, 2))  # the kernel starts from 1 instead of (2m - 1)!!
            ratio = factorial(degree - m) / factorial(degree + m)
            norm = odd * np.sqrt((1 if m == 0 else 2) * (2 * degree + 1) / (4 * pi) * ratio)
            norms[degree * degree + degree + m] = norms[degree * degree + degree - m] = norm
    return norms, pi * np.sqrt(8 / (2 * np.arange(l_max + 1) + 1))
