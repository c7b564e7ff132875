"""What the tests of the OVITO modifiers share: data as a file reader makes them, and other processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from ovito.data import DataCollection, ElementType, Particles, SimulationCell
from ovito.io import import_file
from ovito.pipeline import Pipeline, StaticSource

from phaseseg import read_frames


def collection(positions, symbols, cell, pbc=(True, True, True), origin=(0, 0, 0), *, named=True):
    """A DataCollection as a file reader of OVITO would make it."""
    data = DataCollection()
    matrix = np.column_stack([np.asarray(cell, dtype=float).T, origin])
    box = SimulationCell(pbc=tuple(bool(flag) for flag in pbc))
    box[...] = matrix
    data.objects.append(box)
    particles = Particles(count=len(positions))
    particles.create_property("Position", data=positions)
    names = sorted(set(symbols))
    types = particles.create_property(
        "Particle Type", data=np.array([names.index(name) + 1 for name in symbols], dtype=np.int32)
    )
    for number, name in enumerate(names, start=1):
        types.types.append(ElementType(id=number, name=name if named else ""))
    data.objects.append(particles)
    return data


def symbols(frame):
    return np.array(frame.species_names)[frame.species]


def collection_of(frame):
    """The DataCollection of a Frame."""
    return collection(frame.positions, symbols(frame), frame.cell, frame.pbc)


def imported(path):
    """The pipeline of a trajectory of which OVITO finds all frames.

    In a process that has made a picture, OVITO 3.17 sometimes finds the first one only. Then it looks again,
    and a test that needs the others is skipped if it still finds one.
    """
    known = sum(1 for _ in read_frames(path))
    for _ in range(5):
        pipeline = import_file(str(path))
        if pipeline.num_frames == known:
            return pipeline
        time.sleep(0.2)
    pytest.skip(f"OVITO found {pipeline.num_frames} of {known} frames in {path}")


def pipeline_of(data, *modifiers):
    pipeline = Pipeline(source=StaticSource(data=data))
    for modifier in modifiers:
        pipeline.modifiers.append(modifier)
    return pipeline


def evaluate(data, modifier):
    """Evaluate in a pipeline, where errors keep their type."""
    return pipeline_of(data, modifier).compute()


def area_of(data):
    """Area of the surface mesh, from its triangles."""
    surface = data.surfaces["phase-interface"]
    vertices, faces = surface.get_vertices(), surface.get_faces()
    a, b, c = vertices[faces].transpose(1, 0, 2)
    if surface.domain is not None:  # faces may span the periodic boundary
        cell = surface.domain[:, :3].T
        pbc = np.array(surface.domain.pbc)
        edges = []
        for edge in (b - a, c - a):
            shift = np.rint(edge @ np.linalg.inv(cell)) * pbc
            edges.append(edge - shift @ cell)
    return 0.5 * np.linalg.norm(np.cross(*edges), axis=1).sum()


def python(code, *arguments):
    """Run Python code in a process of its own; gives back what it prints."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, check=False, env=env,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout
