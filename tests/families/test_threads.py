"""The same bits on any number of threads: analyses that need no checkpoint, on ordinary and awkward frames.

Networks of all families are tested by the check "threads" of the conformance suite.
"""

from __future__ import annotations

import pytest

from phaseseg import PowerSpectrum, glass_metrics, label_phases, neighbor_graph, threads
from phaseseg.families.environments.nearest import Index
from phaseseg.families.mobility.descriptors import averaging, structure_descriptors
from phaseseg.families.mobility.filters import filters_of
from phaseseg.families.mobility.mobility_tables import correlation_table
from phaseseg.testing import AWKWARD, assert_same, repeated
from phaseseg.testing.conformance import parts_of_at_most

COUNTS = (2, 3, 8)


def labels(frame):
    return dict(label_phases(frame, "Fe", sigma=1.5, phases=2, min_volume=0))


def automatic_labels(frame):
    return dict(label_phases(frame))


def graph(frame):
    found = neighbor_graph(frame, cutoff=4.0)
    return found.indptr, found.neighbors, found.edge_length, found.edge_shift


def nearest_graph(frame):
    found = neighbor_graph(frame, n_neighbors=5)
    edges = found.indptr, found.neighbors, found.edge_length, found.edge_shift
    return *edges, found.reverse, found.mutual


def metrics(frame):
    return dict(glass_metrics(frame, "O", k=3))


def structure(frame):
    codes = (frame.species != frame.species[0]).astype(int)
    rows = structure_descriptors(frame, codes)
    filters = filters_of(frame, codes)
    filtered = filters(rows)
    table = correlation_table(frame, frame.positions[:, 0], codes, ("A", "B"))
    found = rows, averaging(frame)(rows), filtered, filters.transposed(filtered)
    return *found, *table.columns.values()


def environments(frame):
    rows = PowerSpectrum(("Fe", "O"), n_max=2, l_max=2)(frame)
    return rows, *Index(rows).search(3)


ANALYSES = {
    make.__name__: make
    for make in (labels, automatic_labels, graph, nearest_graph, metrics, structure, environments)
}


def outcome(analyze, frame, n):
    """What an analysis gives on n threads, or the sentence with which it refuses the frame."""
    with threads(n):
        try:
            found = analyze(frame)
        except ValueError as error:
            return {"refused": str(error)}
    return found if isinstance(found, dict) else dict(enumerate(found))


@pytest.mark.slow
@pytest.mark.parametrize("kind", AWKWARD)
@pytest.mark.parametrize("name", ANALYSES)
def test_awkward_frames(name, kind):
    """Loops are cut into parts of 16, although the frames are small."""
    frame = AWKWARD[kind]()
    with parts_of_at_most(16):
        expected = outcome(ANALYSES[name], frame, 1)
        for n in COUNTS:
            assert_same(outcome(ANALYSES[name], frame, n), expected, f"{n} threads")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["orthogonal", "triclinic", "open along c"])
@pytest.mark.parametrize("name", ANALYSES)
def test_frames_that_are_cut_without_request(name, kind):
    frame = repeated(AWKWARD[kind](), (6, 4, 4))
    expected = outcome(ANALYSES[name], frame, 1)
    assert "refused" not in expected
    for n in COUNTS:
        assert_same(outcome(ANALYSES[name], frame, n), expected, f"{n} threads")
