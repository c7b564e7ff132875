"""Frames with awkward cells, coordinates and species, through labels, networks and metrics."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import numpy as np

from fuzz.report import Fault, sentence, sound
from phaseseg import api, glass_metrics, label_phases
from phaseseg.fields import Bonds, Fields, Grid, Table
from phaseseg.frame import Frame
from phaseseg.specs import FIELD_SPECS
from phaseseg.testing.frames import awkward_frames
from samples import disordered_mixture, drops, random_glass_checkpoint, share_checkpoint

MAY_BE_NAN = {"phase_contrast", "mass_balance_residual", "threshold_two_means", "threshold_steepest"}
"""Numbers of a frame that may not exist; so may those of the interface, and others that say so."""
LENGTHS = (0.0, 1e-12, 1e-3, 0.1, 0.5, 1.0, 3.0, 30.0, 1e3, 1e5, 1e7, 1e9)
NAMES = (("Fe", "O"), ("A", "B"), ("Fe",), ("Fe", "O", "Mg", "Si", "N"), ("X", "Fe"), ("$x", "[b]", "Fe"))


@cache
def awkward() -> list[Any]:
    return list(awkward_frames().values())


def frame_of(random: Random) -> Frame:
    """Return a frame of 0 to 200 atoms; ValueError if `Frame` refuses it."""
    rng = np.random.default_rng(random.randrange(1 << 32))
    if random.random() < 0.3:
        frame = random.choice(awkward())()
        positions, cell, pbc = frame.positions.copy(), frame.cell.copy(), frame.pbc.copy()
        codes, names, units = frame.species.copy(), frame.species_names, frame.units
    else:
        n = random.choice((0, 1, 2, 3, 8, 30, 60, 120, 200))
        edge = max(n / random.choice((0.08, 0.02, 1.2)), 1.0) ** (1 / 3)
        cell = np.diag(edge * rng.uniform(0.3, 3, 3))
        if random.random() < 0.4:
            cell = cell + rng.uniform(-1, 1, (3, 3)) * edge * random.choice((0.1, 0.5, 5.0))
        fractions = rng.random((n, 3))
        if random.random() < 0.3:  # a lattice, a layer, a heap
            fractions = np.round(fractions * random.choice((2, 5))) / random.choice((2, 5))
        if random.random() < 0.2:
            fractions[:, 2] = 0.5
        positions, pbc = fractions @ cell, rng.random(3) < 0.7
        names, units = random.choice(NAMES), random.choice(("metal", "metal", "lj"))
        codes = rng.integers(0, len(names), n)
        half = fractions[:, 0] < 0.5
        codes = np.where(half & (rng.random(n) < 0.9), 0, codes) if random.random() < 0.6 else codes
    for _ in range(random.choice((0, 0, 1, 2))):
        _spoil(random, rng, positions, cell, codes)
    if random.random() < 0.2:
        pbc = np.array([random.random() < 0.5 for _ in range(3)])
    origin = rng.uniform(-1, 1, 3) * random.choice((0, 0, 1, 1e3, 1e6))
    return Frame(positions, cell, pbc, codes, names, origin, units=units, source="in-put, frame 3", index=3)


def _spoil(random: Random, rng: Any, positions: Any, cell: Any, codes: Any) -> None:
    kind = random.randrange(8)
    sign = random.choice((-1, 1))
    if kind == 0 and len(positions):
        positions[random.randrange(len(positions)), random.randrange(3)] = sign * random.choice(LENGTHS)
    elif kind == 1:
        cell[random.randrange(3)] *= random.choice((1e-6, 1e-3, 0.1, 10, 1e3, -1))
    elif kind == 2:
        cell[random.randrange(3)] += random.choice((1, 3, 30)) * cell[random.randrange(3)]
    elif kind == 3:
        positions += sign * random.choice(LENGTHS)
    elif kind == 4 and len(positions):
        positions[:] = positions[random.randrange(len(positions))]
    elif kind == 5:
        codes[:] = 0
    elif kind == 6:
        positions *= random.choice((1e-6, 0.01, 0.5, 2, 100))
    elif len(positions):
        positions[random.randrange(len(positions))] = random.choice((np.nan, np.inf, 1e20, 1e200, 1e308))


@cache
def model(name: str) -> Any:
    """A small network of each kind."""
    made = {
        "pair": lambda: share_checkpoint("segmentation/pair-v1", n_members=2, species=("Fe", "O"), outputs=3),
        "gat": lambda: share_checkpoint("segmentation/gat-v9", architecture="gat"),
        "glass": lambda: random_glass_checkpoint(attention=True, n_members=2),
        "glass3": lambda: random_glass_checkpoint("liquid_glass/three-v1", dimensions=3),
    }[name]()
    return api.load_model(made)


def warm() -> None:
    """Compile everything, which takes longer than an input may."""
    positions, symbols, cell = drops(radii=(6.0,), cell=(16.0, 16.0, 16.0))
    melt = Frame(positions, cell, True, symbols)
    for field in ("number", "mole-fraction"):
        label_phases(melt, field=field, phases=2)
    for name in ("pair", "gat"):
        api.predict(melt, model(name), boundary="voxels")
    for name, dimensions in (("glass", 2), ("glass3", 3)):
        frame = disordered_mixture(60, dimensions)
        glass_metrics(frame)
        api.predict(frame, model(name))


def run(kind: str, random: Random) -> str:
    """Analyze one frame; return what became of it."""
    try:
        frame = frame_of(random)
        what, fields = analyzed(frame, random)
    except (ValueError, TypeError) as error:
        sentence(error)
        return "refused"
    check(frame, fields)
    return what


def analyzed(frame: Frame, random: Random) -> tuple[str, Fields]:
    choice = random.random()
    if choice < 0.45:
        options: dict[str, Any] = {"species": random.choice((frame.species_names[:1], "Fe", "O"))}
        if random.random() < 0.5:
            options |= {
                "sigma": random.choice((0.5, 1.0, 1.5, 2.0, 3.0, 50.0)),
                "voxel": random.choice((None, 0.3, 1.0, 5.0)),
                "field": random.choice(("number", "mole-fraction")),
                "threshold": random.choice(("steepest", "two-means", "midpoint", 0.0, 0.04, -1.0, 1e9)),
                "phases": random.choice(("auto", 2, 2)), "at": random.choice(("atom", "voxel")),
                "keep": random.choice(("all", "largest")), "min_volume": random.choice((0.0, 10.0, 1e9)),
                "boundary_width": random.choice((0.0, 0.68, 5.0, 1e3)),
                "bulk_distance": random.choice((0.0, 5.0, 1e3)),
            }  # fmt: skip
        return "labeled", label_phases(frame, **options)
    if choice < 0.7:
        name = random.choice(("pair", "gat"))
        options = {
            "threshold": random.choice((0.5, 0.01, 0.99)), "keep": random.choice(("all", "largest")),
            "min_volume": random.choice((None, 0.0, 100.0)),
            "boundary": random.choice(("interface", "voxels")),
        }  # fmt: skip
        return "predicted", api.predict(frame, model(name), **options)
    if choice < 0.85:
        b = random.choice((frame.species_names[-1:], "B", frame.species_names[:1]))
        return "measured", glass_metrics(
            frame, b=b, k=random.choice((1, 2, 5, 64)), rule=random.choice(("all", "b-only"))
        )
    if random.random() < 0.8:
        codes = np.arange(frame.n_atoms) % 3 == 0
        frame = frame.replace(units="lj", species=codes.astype(np.int32), species_names=("A", "B"))
    return "classified", api.predict(frame, model(random.choice(("glass", "glass3"))))


def check(frame: Frame, fields: Fields) -> None:
    """Raise `Fault` unless all fields are sound."""
    for name, value in fields.items():
        level = FIELD_SPECS[name].level
        nan = name in MAY_BE_NAN or name.startswith("interface_") or "NaN" in FIELD_SPECS[name].description
        if level == "atom":
            sound(name, value, frame.n_atoms, nan=nan)
            if FIELD_SPECS[name].kind == "probability" and len(value):
                sound(f"{name}, which is no probability,", np.where((value < 0) | (value > 1), np.inf, 0))
        elif name == "attention_threshold" and value == np.inf:
            continue  # all edges have the same attention, and none is kept
        elif level == "frame" and value is not None and not isinstance(value, str):
            sound(name, value, nan=nan)
        elif isinstance(value, Grid):
            sound(name, value.values)
        elif isinstance(value, Bonds):
            sound(f"{name}.atoms", value.atoms)
            if len(value) and value.atoms.max() >= frame.n_atoms:
                raise Fault(f"{name} has an atom that does not exist")
            for column, values in value.columns.items():
                sound(f"{name}.{column}", values, len(value))
        elif isinstance(value, Table):
            lengths = {len(values) for values in value.columns.values()}
            if len(lengths) > 1:
                raise Fault(f"{name} has columns of lengths {lengths}")
    for text in fields.messages:
        if not text.strip() or "\n" in text or "nan" in text.lower().split():
            raise Fault(f"no sentence: {text!r}")
    str(fields)
