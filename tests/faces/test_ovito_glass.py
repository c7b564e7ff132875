"""The OVITO face of glass formers: outputs, bonds next to others, tables over a run, bad input."""

from __future__ import annotations

from functools import wraps
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ovito")

from ovito.data import BondType, DataCollection
from ovito.io import import_file
from ovito.modifiers import ComputePropertyModifier, CreateBondsModifier
from traits.api import TraitError

from faces.ovito_data import collection, collection_of, evaluate, imported, pipeline_of, symbols
from ovito_phaseseg import GlassMetrics
from phaseseg import Frame, glass_metrics
from phaseseg.families.liquid_glass import structural_metrics as metrics
from phaseseg.io import read_frames
from phaseseg.specs import FIELD_SPECS

ATOM = ("graph_id", "isolated", "bb_degree")
NUMBERS = ("n_disjoint_graphs", "n_bb_edges", "n_isolated_a")


@pytest.fixture
def layer(make_disorder):
    """A 2D mixture in a cell that OVITO takes for one of three dimensions."""
    return collection_of(make_disorder(289))


def apply(data, **parameters):
    return evaluate(data, GlassMetrics(**parameters))


def assert_equal_fields(data, expected):
    for name in ATOM:
        np.testing.assert_array_equal(data.particles[FIELD_SPECS[name].title], expected[name], name)
    for name, value in expected.level("frame").items():
        assert data.attributes["GlassMetrics." + name] == value, name


# Outputs


@pytest.mark.parametrize("options", [{}, {"k": 3}, {"rule": "b-only"}, {"b": "A"}])
@pytest.mark.parametrize("n_dimensions", [2, 3])
def test_properties_attributes_and_bonds_are_those_of_the_library(make_disorder, n_dimensions, options):
    frame = make_disorder(343, n_dimensions)
    data = apply(collection_of(frame), **options)
    expected = glass_metrics(frame, **options)
    assert all(expected[name] > 0 for name in ("n_disjoint_graphs", "n_bb_edges"))
    assert_equal_fields(data, expected)
    assert [FIELD_SPECS[name].title for name in ATOM] == ["Graph ID", "Isolated", "B-B Degree"]
    assert data.attributes["GlassMetrics.messages"] == " ".join(expected.messages)
    bonds, there = expected["glass_bonds"], data.particles.bonds
    np.testing.assert_array_equal(there.topology, bonds.atoms)
    np.testing.assert_array_equal(there["Periodic Image"], bonds.shifts)
    np.testing.assert_array_equal(there["B-B"], bonds.columns["bb"])
    np.testing.assert_array_equal(there["Length"], bonds.columns["length"])
    kinds = [there.bond_types.type_by_id(number).name for number in there.bond_types]
    np.testing.assert_array_equal(kinds, np.where(bonds.columns["bb"], "B-B", "A-B"))
    assert "Color" not in data.particles and not data.tables and "n_phases" not in str(list(data.attributes))


def test_bonds_span_what_the_library_says(layer, make_disorder):
    """OVITO's own vectors of the bonds have the lengths that the library gives, over the boundary too."""
    data = apply(layer)
    there = data.particles.bonds
    i, j = there.topology[...].T
    apart = data.particles.positions[j] - data.particles.positions[i]
    apart = apart + there["Periodic Image"] @ np.array(data.cell[:3, :3]).T
    np.testing.assert_allclose(np.linalg.norm(apart, axis=1), there["Length"], rtol=1e-5)
    assert np.any(there["Periodic Image"]) and there["Length"][...].max() < 3


def test_only_bonds_between_b_and_none(layer):
    every, some = apply(layer), apply(layer, bb_bonds_only=True)
    assert some.particles.bonds.count == every.attributes["GlassMetrics.n_bb_edges"]
    assert (some.particles.bonds["B-B"][...] == 1).all()
    assert apply(layer, bonds=False).particles.bonds is None
    none = apply(layer, bonds=False, bb_bonds_only=True)
    assert_equal_fields(none, glass_metrics(frame_of(layer)))


def frame_of(data):
    from ovito_phaseseg.convert import frame_from_data

    return frame_from_data(data)


def test_existing_bonds_are_kept(layer):
    own = layer.particles_.create_bonds(count=2)
    own.create_property("Topology", data=[[0, 1], [2, 3]])
    own.create_property("Strength", data=np.array([1.5, 2.5]))
    own.create_property("Length", data=np.array([7.0, 8.0]))
    kind = own.create_property("Bond Type", data=np.array([3, 0], dtype=np.int32))
    kind.types.append(BondType(id=3, name="mine", color=(0, 1, 0)))
    own.vis.width = 0.77
    data = apply(layer)
    there, bonds = data.particles.bonds, glass_metrics(frame_of(layer))["glass_bonds"]
    assert there.count == 2 + len(bonds)
    np.testing.assert_array_equal(there.topology[:2], [[0, 1], [2, 3]])
    np.testing.assert_array_equal(there.topology[2:], bonds.atoms)
    np.testing.assert_array_equal(there["Strength"][:3], [1.5, 2.5, 0.0])
    np.testing.assert_array_equal(there["Length"][:2], [7.0, 8.0])
    np.testing.assert_array_equal(there["Length"][2:], bonds.columns["length"])
    np.testing.assert_array_equal(there["B-B"][:2], [0, 0])
    np.testing.assert_array_equal(there["Periodic Image"][:2], np.zeros((2, 3)))
    np.testing.assert_array_equal(there.bond_types[:2], [3, 0])
    names = {entry.id: entry.name for entry in there.bond_types.types}
    assert names[3] == "mine" and {names[number] for number in there.bond_types[2:]} == {"A-B", "B-B"}
    assert there.vis.width == pytest.approx(0.77)
    # The input is left as it was.
    assert layer.particles.bonds.count == 2 and set(layer.particles.bonds) == set(own)


def test_bonds_of_other_modifiers_are_kept(layer):
    """Two modifiers of ours and one of OVITO in one pipeline, with their types."""
    pipeline = pipeline_of(layer, CreateBondsModifier(cutoff=1.05))
    n_own = pipeline.compute().particles.bonds.count
    pipeline.modifiers.append(GlassMetrics())
    n_first = pipeline.compute().particles.bonds.count
    pipeline.modifiers.append(GlassMetrics(bb_bonds_only=True))
    there = pipeline.compute().particles.bonds
    n_bb = pipeline.compute().attributes["GlassMetrics.n_bb_edges"]
    assert n_own > 0 and there.count == n_first + n_bb
    assert sorted(entry.name for entry in there.bond_types.types if "-" in entry.name) == [
        "A-B", "A-B 2", "B-B", "B-B 2"
    ]  # fmt: skip
    np.testing.assert_array_equal(there["B-B"][-n_bb:], 1)


def test_look_of_the_bonds(layer):
    modifier = GlassMetrics()
    modifier.bonds_vis.width = 0.3
    pipeline = pipeline_of(layer, modifier)
    vis = pipeline.compute().particles.bonds.vis
    assert vis.width == pytest.approx(0.3)
    assert vis.coloring_mode == vis.ColoringMode.ByBondType


def test_colors(layer):
    fields = glass_metrics(frame_of(layer))
    is_b = frame_of(layer).species_mask("B")
    for color_by, kinds in {
        "isolated": np.where(is_b, 2, fields["isolated"]),
        "bb": np.where(is_b, 1 + (fields["bb_degree"] > 0), 0),
        "graph": np.minimum(fields["graph_id"], 3) * (fields["graph_id"] < 4),
    }.items():
        colors = apply(layer, color_by=color_by).particles.colors[...]
        groups = [np.unique(colors[kinds == kind], axis=0) for kind in np.unique(kinds)]
        if color_by == "graph":
            groups = [group for group, kind in zip(groups, np.unique(kinds), strict=True) if 0 < kind < 4]
        assert len(groups) >= 2 and all(len(group) == 1 for group in groups), color_by
        assert len(np.unique(np.concatenate(groups), axis=0)) == len(groups), color_by
    graph = apply(layer, color_by="graph")
    none = graph.particles["Graph ID"][...] == 0
    assert none.any() and len(np.unique(graph.particles.colors[none], axis=0)) == 1


def test_a_property_of_the_same_name_is_replaced(layer):
    layer.particles_.create_property("Graph ID", data=np.zeros(layer.particles.count))
    layer.particles_.create_property("Isolated", data=["a"] * layer.particles.count)
    data = apply(layer)
    assert data.particles["Graph ID"].dtype == np.int32 and data.particles["Isolated"].dtype == np.int32


# Two dimensions


def test_a_2d_cell_gives_a_frame_of_two_dimensions(make_disorder):
    """Also where the third vector is missing, and heights that mean nothing are left over."""
    frame = make_disorder(289)
    expected = glass_metrics(frame)
    for height, pbc in ((0.0, (True, True, False)), (1.0, (True, True, True))):
        cell = frame.cell.copy()
        cell[2, 2] = height
        data = collection(frame.positions, symbols(frame), cell, pbc)
        data.cell_.is2D = True
        data.particles_.positions_[...] += np.outer(np.linspace(0, 0.4, len(frame)), [0, 0, 1])
        assert frame_of(data).n_dimensions == 2
        assert_equal_fields(apply(data), expected)
    # As three dimensions the heights count.
    data.cell_.is2D = False
    assert frame_of(data).n_dimensions == 3


def test_what_lies_upstream_makes_them_anew(layer, runs):
    squeeze = ComputePropertyModifier(output_property="Position", expressions=["Position.X"] * 3)
    squeeze.expressions = ["Position.X", "Position.Y", "Position.Z"]
    pipeline = pipeline_of(layer, squeeze, GlassMetrics(trajectory_table=True))
    first = pipeline.compute().tables["glass-metrics-frames"].y[...].copy()
    squeeze.expressions = ["Position.X + 0.2*sin(9*Position.Y)", "Position.Y", "Position.Z"]
    data = pipeline.compute()
    assert len(runs) == 2
    assert (data.tables["glass-metrics-frames"].y[...] != first).any()


# Tables over the trajectory


def test_tables_over_the_trajectory(run_file, runs):
    frames = list(read_frames(run_file))
    pipeline = imported(run_file)
    modifier = GlassMetrics()
    pipeline.modifiers.append(modifier)
    assert not pipeline.compute(2).tables and len(runs) == 1
    modifier.trajectory_table = True
    data = pipeline.compute(2)
    assert len(runs) == len(frames)  # that of the current frame was at hand
    expected = np.array([[glass_metrics(frame)[name] for name in NUMBERS] for frame in frames])
    table = data.tables["glass-metrics-frames"]
    np.testing.assert_array_equal(table.x, range(len(frames)))
    np.testing.assert_array_equal(table.y, expected)
    assert table.y.component_names == ("disjoint graphs", "B-B edges", "isolated A")
    temperatures = np.array([frame.info["temperature"] for frame in frames])
    order = np.argsort(temperatures)
    table = data.tables["glass-metrics-temperature"]
    np.testing.assert_array_equal(table.x, temperatures[order])
    np.testing.assert_array_equal(table.y, expected[order])
    assert table.plot_mode == table.PlotMode.Scatter
    # Nothing is done twice: not for another frame, not for another look.
    n_runs = len(runs)
    again = pipeline.compute(0)
    assert len(runs) <= n_runs + 1
    np.testing.assert_array_equal(again.tables["glass-metrics-frames"].y, expected)
    n_runs = len(runs)
    modifier.color_by = "graph"
    pipeline.compute(0)
    assert len(runs) == n_runs
    modifier.k = 3
    pipeline.compute(0)
    assert len(runs) == n_runs + len(frames)


def test_another_attribute_holds_the_temperature(run_file, runs):
    pipeline = imported(run_file)
    modifier = GlassMetrics(trajectory_table=True, temperature="kinetic_temperature")
    pipeline.modifiers.append(modifier)
    tables = pipeline.compute().tables
    expected = sorted(frame.info["kinetic_temperature"] for frame in read_frames(run_file))
    np.testing.assert_array_equal(tables["glass-metrics-temperature"].x, expected)
    n_runs = len(runs)
    modifier.temperature = "nothing"
    data = pipeline.compute()
    assert set(data.tables) == {"glass-metrics-frames"} and len(runs) == n_runs
    assert "No frame has a global attribute 'nothing'" in data.attributes["GlassMetrics.messages"]


def test_progress_over_the_trajectory(run_file):
    """OVITO can stop between any two frames: every one is announced."""
    pipeline = imported(run_file)
    n_frames = pipeline.num_frames

    class Slot:
        num_frames = n_frames
        compute = staticmethod(pipeline.compute)

    steps = list(
        GlassMetrics(trajectory_table=True).modify(
            pipeline.compute(0).clone(), frame=0, input_slots={"upstream": Slot}
        )
    )
    texts = [step for step in steps if isinstance(step, str)]
    numbers = [step for step in steps if isinstance(step, float)]
    assert sum(text.startswith("Frame ") for text in texts) == n_frames - 1
    assert numbers == sorted(numbers) and numbers[-1] == 1.0
    assert GlassMetrics(k=3).get_pipeline_short_info() == "B = B, k = 3, all"


def test_cancel_keeps_the_rows_that_are_there(run_file, monkeypatch):
    pipeline = imported(run_file)
    modifier = GlassMetrics(trajectory_table=True)
    pipeline.modifiers.append(modifier)
    real, seen = metrics.glass_metrics, []

    @wraps(real)
    def stopped(frame, *args, **options):
        seen.append(frame)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(frame, *args, **options)

    monkeypatch.setattr(metrics, "glass_metrics", stopped)
    with pytest.raises(KeyboardInterrupt):
        pipeline.compute(0)
    data = pipeline.compute(0)
    assert len(data.tables["glass-metrics-frames"].x) == pipeline.num_frames
    assert len(seen) == pipeline.num_frames + 1


# Types and bad input


def test_names_of_species_and_types(make_disorder):
    frame = make_disorder(289)
    expected = glass_metrics(frame)
    unnamed = collection(frame.positions, symbols(frame), frame.cell, frame.pbc, named=False)
    assert_equal_fields(apply(unnamed, types="A,B"), expected)
    assert_equal_fields(apply(unnamed, types="Ni, P", b="P"), expected)
    three = symbols(frame).astype("U2")
    three[np.flatnonzero(three == "B")[::2]] = "B2"
    several = collection(frame.positions, three, frame.cell, frame.pbc)
    assert_equal_fields(apply(several, b="B, B2"), expected)
    with pytest.raises(ValueError, match=r"^Glass structural metrics: particle type 1, 2 has no name"):
        apply(unnamed)


def test_bad_input(layer):
    def without(change):
        data = layer.clone()
        change(data)
        return data

    for name, value in {"k": 0, "rule": "both", "color_by": "x", "bonds": "x"}.items():
        with pytest.raises(TraitError, match=name):
            GlassMetrics(**{name: value})
    with pytest.raises(
        TypeError, match=r"GlassMetrics has no parameter kk; the parameters are b, types, names, k"
    ):
        GlassMetrics(kk=3)
    with pytest.raises(TypeError, match="no parameter bond_vis"):
        GlassMetrics(bond_vis=None)
    for b in ("Xx", "B, Xx"):
        with pytest.raises(
            ValueError, match=r"^Glass structural metrics: no species named 'Xx'; the species"
        ):
            apply(layer, b=b)
    with pytest.raises(ValueError, match=r"^Glass structural metrics: "):
        apply(layer, b=" , ")
    with pytest.raises(ValueError, match=r"^Glass structural metrics: "):
        apply(layer, b="A, B")
    with pytest.raises(ValueError, match=r"^Glass structural metrics: the input has no particles"):
        apply(DataCollection())
    with pytest.raises(ValueError, match=r"^Glass structural metrics: the input has no simulation cell"):
        apply(without(lambda data: data.objects.remove(data.cell)))
    few = Frame([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], [9.0, 9, 9], False, ["A", "B", "A"])
    with pytest.raises(ValueError, match=r"^Glass structural metrics: .*neighbors"):
        apply(collection_of(few), k=3)


def test_the_frame_is_named_in_errors_of_other_frames(run_file, tmp_path):
    text = Path(run_file).read_text()
    n_atoms = int(text.split("\n", 1)[0])
    lines = text.splitlines()
    second = n_atoms + 2
    lines[second + 2] = lines[second + 2].replace(lines[second + 2].split()[1], "nan", 1)
    path = tmp_path / "spoilt.xyz"
    path.write_text("\n".join(lines) + "\n")
    pipeline = import_file(str(path))
    pipeline.modifiers.append(GlassMetrics())
    pipeline.compute(0)
    pipeline.modifiers[0].delegate.trajectory_table = True
    with pytest.raises(ValueError, match=r"spoilt.xyz, frame 1: atom 1"):
        pipeline.compute(0)
