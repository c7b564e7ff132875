"""A linear potential on power spectra: fitted by ridge regression, with analytic forces."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.exact import from_parts, load_part, save_part, to_parts
from phaseseg.families.environments.potential_basis import Basis, Repulsion, fit_basis
from phaseseg.families.environments.potential_table import Solution, checked_targets, make_table
from phaseseg.frame import Frame
from phaseseg.specs import Progress

Doubles = NDArray[np.float64]


def usual_descriptor(species: Sequence[str]) -> PowerSpectrum:
    """Power spectrum of potentials: 147 features of one species; shorter radial and angular sums of more."""
    n = 6 if len(species) == 1 else 4
    return PowerSpectrum(tuple(species), n_max=n, l_max=n)


@dataclass(frozen=True, eq=False)
class LinearPotential:
    """A fitted potential. The energy is a sum over atoms of functions of their environment.

    E = Σ_i [c_z(i) + Σ_k w_z(i),k φ_k(i)], where φ are the features of the power spectrum and products of
    their first principal components, and z is the species of the atom. A screened repulsion may be added.

    basis : the functions; solution : coefficients, constants, penalty

    References
    ----------
    Thompson et al., J. Comput. Phys. 285, 316 (2015), doi:10.1016/j.jcp.2014.12.018 (linear potentials on
    invariants of the density); Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013),
    doi:10.1103/PhysRevB.87.184115 (the power spectrum).

    >>> rng = np.random.default_rng(0)
    >>> frames = [Frame([[0.0, 0, 0], [r, 0, 0]], [30.0] * 3, False, ["Fe", "Fe"])
    ...           for r in rng.uniform(2, 3, 20)]
    >>> energies = [(np.linalg.norm(f.positions[1]) - 2.4) ** 2 for f in frames]
    >>> potential = LinearPotential.fit(frames, energies)
    >>> bool(np.abs(potential.energies(frames) - energies).max() < 1e-3)
    True
    """

    basis: Basis
    solution: Solution

    @classmethod
    def fit(
        cls, frames: Sequence[Frame], energies: ArrayLike, forces: ArrayLike | None = None, *,
        descriptor: PowerSpectrum | None = None, n_products: int = 0, repulsion: Repulsion | None = None,
        atom_weights: ArrayLike | None = None, energy_weights: ArrayLike | None = None,
        penalty: float | None = None, seed: int = 0, progress: Progress | None = None,
    ) -> LinearPotential:  # fmt: skip
        """Fit a potential to energies and forces.

        Residuals of energies per atom in eV count 100 times those of forces in eV/Å. All rows of a
        configuration are multiplied by 1 / (1 + (ΔE / 0.5)^2), where ΔE is its energy per atom above the
        lowest in eV.

        Parameters
        ----------
        frames : configurations
        energies : (n_configurations,) eV, total
        forces : (n_atoms, 3) eV/Å, configuration by configuration; None to fit energies only
        descriptor : its species are those of the potential; None for `usual_descriptor` of all in the frames
        n_products : principal components of the features whose products are functions, too
        repulsion : baseline at short distances
        atom_weights : (n_atoms,) factors of the squared residuals, such as the weights that `prune` returns;
            zeros leave rows out
        energy_weights : (n_configurations,); by default the means of the weights of the atoms
        penalty : of the ridge, in units of the mean diagonal of the normal equations; None for the best in
            cross-validation over configurations
        seed : of the division into parts for the cross-validation
        progress : called with the fraction that is done and a text

        Raises
        ------
        ValueError
            For arrays that do not fit the frames, numbers that are not finite, or no configuration.
        """
        checked_targets(frames, energies, forces)
        if descriptor is None:
            descriptor = usual_descriptor(species_of(frames))
        basis = fit_basis(frames, descriptor, n_products, repulsion, _part(progress, 0.0, 0.2))
        table = make_table(frames, energies, forces, basis, _part(progress, 0.2, 1.0))
        solution = table.fit(
            atom_weights=atom_weights, energy_weights=energy_weights, penalty=penalty, seed=seed
        )
        return cls(basis, solution)

    def atomic_energies(self, frame: Frame) -> Doubles:
        """Return (n_atoms,) eV; their sum is the energy. ValueError for an unknown species."""
        basis, found = self.basis, self.solution
        energies = basis.energies(frame, found.coefficients)
        energies += found.constants[basis.descriptor.codes(frame)]
        return energies if basis.repulsion is None else energies + basis.repulsion(frame)[0]

    def energies(self, frames: Sequence[Frame]) -> Doubles:
        """Return (n_configurations,) eV, total."""
        return np.array([self.atomic_energies(frame).sum() for frame in frames], dtype=np.float64)

    def forces(self, frames: Sequence[Frame]) -> Doubles:
        """Return (n_atoms, 3) eV/Å, configuration by configuration: minus the derivatives of the energy."""
        found = [np.zeros((0, 3))]
        for frame in frames:
            own = self.basis.forces(frame, self.solution.coefficients)
            found.append(own + self.basis.baseline(frame)[1])
        return np.concatenate(found)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint (.safetensors); reading it runs no code."""
        basis, found = self.basis, self.solution
        settings: dict[str, Any] = {
            "descriptor": asdict(basis.descriptor), "penalty": found.penalty, "losses": found.losses,
            "repulsion": None if basis.repulsion is None else asdict(basis.repulsion),
        }  # fmt: skip
        arrays = {name: getattr(basis, name) for name in _OF_BASIS}
        arrays |= {"coefficients": found.coefficients, "constants": found.constants}
        # An array without products is empty, which a checkpoint cannot hold.
        weights = {f"potential.{name}": to_parts(v, name) for name, v in arrays.items() if v.size}
        save_part(path, "potential", settings, weights)


_OF_BASIS = ("axes", "shifts", "means", "factors")


def load_potential(path: str | os.PathLike[str]) -> LinearPotential:
    """Read what `LinearPotential.save` wrote. ValueError for another file."""
    return load_part(path, "potential", "a linear potential", "", _potential_from)


def _potential_from(
    settings: Mapping[str, Any], weights: Mapping[str, NDArray[np.float32]]
) -> LinearPotential:
    arrays = {name.removeprefix("potential."): from_parts(parts) for name, parts in weights.items()}
    descriptor = PowerSpectrum(
        **settings["descriptor"] | {"species": tuple(settings["descriptor"]["species"])}
    )
    n_species, n = len(descriptor.species), descriptor.n_features
    axes = arrays.get("axes", np.zeros((n_species, n, 0)))
    d = axes.shape[-1]
    shifts = arrays.get("shifts", np.zeros((n_species, d)))
    width = n_species * (n + d * (d + 1) // 2)
    expected = {"means": (width,), "factors": (width,), "coefficients": (width,), "constants": (n_species,)}
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name} has the shape {arrays[name].shape}, expected {shape}")
    if axes.shape != (n_species, n, d) or shifts.shape != (n_species, d):
        raise ValueError(f"axes have the shape {axes.shape}, and shifts {shifts.shape}")
    repulsion = None if settings["repulsion"] is None else Repulsion(**settings["repulsion"])
    basis = Basis(descriptor, axes, shifts, arrays["means"], arrays["factors"], repulsion)
    solution = Solution(
        arrays["coefficients"], arrays["constants"], float(settings["penalty"]), tuple(settings["losses"])
    )
    return LinearPotential(basis, solution)


def species_of(frames: Sequence[Frame]) -> tuple[str, ...]:
    """Names of the species that atoms of the frames have, sorted."""
    return tuple(sorted({f.species_names[code] for f in frames for code in np.unique(f.species)}))


def _part(progress: Progress | None, first: float, last: float) -> Progress | None:
    if progress is None:
        return None
    return lambda fraction, text: progress(first + fraction * (last - first), text)
