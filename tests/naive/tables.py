"""Compositions, profiles, molecules, error bars of series."""

from __future__ import annotations

import numpy as np


def composition(frame, phase, distance, masses, bulk_distance):
    """{row: {element: (wt%, at%)}} and the number of atoms of each row, by loops."""
    sides = ("rich side", "poor side", "rich bulk", "poor bulk")
    rows = {name: [] for name in ("rich", "poor", "boundary", *sides, "all")}
    for atom in range(frame.n_atoms):
        name = frame.species_names[frame.species[atom]]
        rows[("poor", "rich", "boundary")[phase[atom]]].append(name)
        rows["all"].append(name)
        d = distance[atom]
        side = ("poor", "rich")[int(phase[atom] == 1 if np.isnan(d) else d > 0)]
        rows[f"{side} side"].append(name)
        if np.isnan(d) or abs(d) > bulk_distance:
            rows[f"{side} bulk"].append(name)
    result, atoms = {}, {}
    for row, names in rows.items():
        atoms[row] = len(names)
        mass = sum(masses[name] for name in names)
        result[row] = {
            name: (
                100 * masses[name] * names.count(name) / mass if names else np.nan,
                100 * names.count(name) / len(names) if names else np.nan,
            )
            for name in frame.species_names
        }
    return result, atoms


def proxigram(frame, distance, masses, volumes, bin_width=0.5, limit=30.0):
    """[(distance, atoms, {element: at%}, {element: Å^-3}, g/cm^3)] of bins with atoms or space, by loops."""
    rows = []
    for number, index in enumerate(range(-round(limit / bin_width), round(limit / bin_width))):
        inside = [
            frame.species_names[frame.species[atom]]
            for atom in range(frame.n_atoms)
            if index * bin_width <= distance[atom] < (index + 1) * bin_width
        ]
        if inside or volumes[number]:
            n, v = len(inside) or np.nan, volumes[number] or np.nan
            shares = {name: 100 * inside.count(name) / n for name in frame.species_names}
            densities = {name: inside.count(name) / v for name in frame.species_names}
            mass = 1.6605 * sum(masses[name] for name in inside) / v
            rows.append(((index + 0.5) * bin_width, len(inside), shares, densities, mass))
    return rows


def shell_volumes(distance_to, cell, bin_width, n_bins, n=60):
    """Volume of a cell in bins of a signed distance, from a random point in each of n^3 equal parts."""
    rng, counts = np.random.default_rng(0), np.zeros(n_bins)
    for i in range(n):
        for j in range(n):
            points = (np.stack([np.full(n, i), np.full(n, j), np.arange(n)], 1) + rng.random((n, 3))) / n
            for d in distance_to(points @ cell):
                place = int(np.floor(d / bin_width)) + n_bins // 2
                if 0 <= place < n_bins:
                    counts[place] += 1
    return counts * abs(np.linalg.det(cell)) / n**3


def centers_of_mass(frame, masses, largest=30):
    """{atoms of a molecule: its center of mass}, atoms of none or of large molecules for themselves.

    Each atom is placed by the minimum image next to the nearest atom that has its place, the first as it is.
    """
    groups = {}
    for atom, number in enumerate(frame.molecules.tolist()):
        groups.setdefault(number if number > 0 else ("alone", atom), []).append(atom)
    result = {}
    for group in groups.values():
        for members in [group] if len(group) <= largest else [[atom] for atom in group]:
            place = {members[0]: frame.positions[members[0]]}
            while len(place) < len(members):
                options = []
                for atom in members:
                    for where in place.values():
                        if atom not in place:
                            turns = np.linalg.solve(frame.cell.T, frame.positions[atom] - where)
                            image = frame.positions[atom] - (np.rint(turns) * frame.pbc) @ frame.cell
                            options.append((np.linalg.norm(image - where), atom, image))
                _, atom, image = min(options, key=lambda option: option[0])
                place[atom] = image
            weights = [masses[frame.species_names[frame.species[atom]]] for atom in members]
            if not sum(weights) > 0:
                weights = [1.0] * len(members)
            total = sum(w * place[atom] for w, atom in zip(weights, members, strict=True))
            result[tuple(sorted(members))] = total / sum(weights)
    return result


def block_errors(values):
    """{block length: standard error of the mean from blocks of that length}, lengths 1, 2, 4 ..."""
    errors, length = {}, 1
    while len(values) // length >= 4:
        means = [
            sum(values[first : first + length]) / length
            for first in range(0, len(values) - length + 1, length)
        ]
        mean = sum(means) / len(means)
        variance = sum((value - mean) ** 2 for value in means) / (len(means) - 1)
        errors[length] = (variance / len(means)) ** 0.5
        length *= 2
    return errors
