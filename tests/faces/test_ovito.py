"""The OVITO face of the weak labels: outputs, files read back, bad input."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ovito")

from ovito.data import DataCollection, ElementType
from ovito.io import export_file, import_file
from ovito.modifiers import ColorByTypeModifier
from traits.api import TraitError

from faces.ovito_data import area_of, collection, evaluate, imported, pipeline_of
from ovito_phaseseg import PhaseSegmentation, RestorePhaseTypes, WeakPhaseLabels, convert
from ovito_phaseseg.convert import frame_from_data
from phaseseg import label_phases
from phaseseg.families.segmentation.fields import PHASE_CLASSES
from phaseseg.families.segmentation.labels import density
from phaseseg.families.segmentation.rules import LabelRule
from phaseseg.fields import Column, Fields, Table
from phaseseg.frame import Category, Frame
from phaseseg.io import read_frames, write_frames

TITLES = {
    "phase": "Phase",
    "phase_density": "Phase Density",
    "interface_distance": "Interface Distance",
    "domain": "Domain",
}


@pytest.fixture
def drop(make_drops):
    return collection(*make_drops())


def apply(data, **parameters):
    return evaluate(data, WeakPhaseLabels(**parameters))


# Outputs


def test_particle_properties_are_those_of_the_library(make_drops):
    positions, symbols, cell = make_drops()
    data = collection(positions, symbols, cell)
    data.apply(WeakPhaseLabels(species="Fe", sigma=1.4))
    expected = label_phases(
        Frame(positions=positions, cell=cell, pbc=True, species=symbols), species="Fe", sigma=1.4
    )
    for name, title in TITLES.items():
        np.testing.assert_array_equal(data.particles[title][...], expected[name], err_msg=name)
    phase = data.particles["Phase"]
    assert phase.dtype == np.int32
    for entry in PHASE_CLASSES:
        assert phase.type_by_id(entry.id).name == entry.name
        np.testing.assert_allclose(phase.type_by_id(entry.id).color, entry.color, atol=1e-6)
    assert "Color" not in data.particles


def test_attributes_and_tables(make_drops):
    positions, symbols, cell = make_drops()
    data = collection(positions, symbols, cell)
    data.apply(WeakPhaseLabels())
    fields = label_phases(Frame(positions=positions, cell=cell, pbc=True, species=symbols))
    for name, value in fields.level("frame").items():
        np.testing.assert_equal(data.attributes["PhaseSegmentation." + name], value)
    others = {"PhaseSegmentation.phase_names", "PhaseSegmentation.messages"}
    assert set(data.attributes) == {f"PhaseSegmentation.{name}" for name in fields.level("frame")} | others
    assert len(data.attributes) < 24
    assert data.attributes["PhaseSegmentation.phase_names"] == "0=poor,1=rich,2=boundary"
    assert data.attributes["PhaseSegmentation.messages"] == " ".join(fields.messages)

    rows = {row["phase"]: row for row in fields["composition"].rows()}
    composition = data.tables["phase-composition"]
    assert composition.y.component_names == ("Fe", "O")
    titles = [composition.x.type_by_id(row).name for row in composition.x[...]]
    assert titles == list(rows)
    for row, title in enumerate(titles):
        np.testing.assert_equal(composition.y[row, 0], rows[title]["Fe (wt%)"])
        np.testing.assert_equal(composition["Content (at%)"][row, 1], rows[title]["O (at%)"])
    proxigram = data.tables["phase-proxigram"]
    np.testing.assert_array_equal(proxigram.x, fields["proxigram"].columns["distance (Å)"])
    np.testing.assert_array_equal(proxigram.y[:, 0], fields["proxigram"].columns["Fe (at%)"])
    assert len(data.tables["phase-domains"].x) == len(fields["domains"])
    assert len(data.tables["phase-partition"].x) == 2
    assert set(data.tables) == {
        "phase-composition", "phase-partition", "phase-domains", "phase-proxigram"
    }  # fmt: skip


def test_tables_as_attributes_on_request(make_drops, pair_file):
    positions, symbols, cell = make_drops()
    for modifier in (WeakPhaseLabels(), PhaseSegmentation(model_file=pair_file)):
        few = evaluate(collection(positions, symbols, cell), modifier).attributes
        modifier.table_attributes = True
        data = evaluate(collection(positions, symbols, cell), modifier)
        expected = label_phases(Frame(positions=positions, cell=cell, pbc=True, species=symbols))
        more = {name: value for name, value in data.attributes.items() if name not in few}
        columns = ["atoms", "atom_fraction", "mass_fraction"]
        columns += [f"{name}_{unit}_percent" for unit in ("wt", "at") for name in ("Fe", "O")]
        rows = [row["phase"].replace(" ", "_") for row in expected["composition"].rows()]
        assert set(more) == {f"PhaseSegmentation.{row}.{column}" for row in rows for column in columns}
        table = data.tables["phase-composition"]
        for name, content in zip(rows, table["Content (wt%)"], strict=True):
            np.testing.assert_equal(more[f"PhaseSegmentation.{name}.Fe_wt_percent"], content[0])


def test_tables_of_two_modifiers_with_other_species(drop):
    """Both make the table of compositions, the second one with a column more."""
    pipeline = pipeline_of(drop, WeakPhaseLabels(types="Fe,Fe"), WeakPhaseLabels(types="Fe,O"))
    tables = pipeline.compute().tables
    assert tables["phase-composition"].y.component_names == ("Fe",)
    assert tables["phase-composition.2"].y.component_names == ("Fe", "O")


def test_nothing_of_the_isosurface_is_left_behind(drop):
    drop.apply(WeakPhaseLabels(voxel_grid=False))
    assert not drop.grids
    assert list(drop.surfaces) == ["phase-interface"]
    assert all(name.startswith("PhaseSegmentation.") for name in drop.attributes)


def exact_density(places, atoms, cell, pbc, sigma=1.5):
    """Kernel density by a direct sum over the atoms and their nearest images, Å^-3."""
    shifts = np.stack(np.meshgrid(*([-1, 0, 1] if flag else [0] for flag in pbc)), axis=-1).reshape(-1, 3)
    fractions = (places[:, None] - atoms) @ np.linalg.inv(cell)
    apart = (fractions - np.rint(fractions) * pbc) @ cell
    square = ((apart[:, :, None] + shifts @ cell) ** 2).sum(axis=-1)
    return np.exp(-square / (2 * sigma**2)).sum(axis=(1, 2)) / (np.sqrt(2 * np.pi) * sigma) ** 3


SKEW = np.array([[30.0, 0.0, 0.0], [7.0, 29.0, 0.0], [-5.0, 8.0, 31.0]])


@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 0, 1), (0, 0, 0)])
@pytest.mark.parametrize("cell", [np.diag([30.0, 30.0, 30.0]), SKEW], ids=["cube", "triclinic"])
def test_interface_mesh_and_grid(make_drops, cell, pbc):
    """In any cell the grid lies where the library says, and the mesh where the density is the threshold."""
    positions, symbols, cell = make_drops(cell=cell)
    origin = np.array([3.0, -4.0, 5.0])
    positions += origin
    data = collection(positions, symbols, cell, pbc, origin)
    data.apply(WeakPhaseLabels(sigma=1.5))
    frame = Frame(positions=positions, cell=cell, pbc=pbc, species=symbols, origin=origin)
    expected = density.density_field(frame, LabelRule(sigma=1.5, species=("Fe",)).fixed())

    grid, domain = data.grids["phase-density"], data.grids["phase-density"].domain
    values = np.array(grid["Phase Density"]).reshape(grid.shape, order="F")
    np.testing.assert_array_equal(values, expected.grid.values)
    # OVITO puts the last point of an open axis on the end of the domain.
    steps = domain[:, :3].T / (np.array(grid.shape) - ~np.array(domain.pbc))[:, None]
    np.testing.assert_allclose(steps, expected.grid.steps, atol=1e-12)
    np.testing.assert_allclose(domain[:, 3], expected.grid.origin, atol=1e-12)
    assert not grid.vis.enabled

    threshold = data.attributes["PhaseSegmentation.threshold"]
    vertices = data.surfaces["phase-interface"].get_vertices()
    np.testing.assert_allclose(
        exact_density(vertices[::40], positions[symbols == "Fe"], cell, pbc), threshold, rtol=0.05
    )
    assert area_of(data) == pytest.approx(data.attributes["PhaseSegmentation.interface_area"], rel=0.1)


@pytest.mark.parametrize("by", ["labels", "network"])
def test_dropped_domains_have_no_mesh(make_drops, pair_file, by):
    """A small drop that is dropped by its volume or for not being the largest shows no surface."""
    melt = make_drops(centers=((0.3, 0.3, 0.3), (0.8, 0.8, 0.8)), radii=(9.0, 5.5), cell=(36.0, 36.0, 36.0))

    cls, fixed = {"labels": (WeakPhaseLabels, {}), "network": (PhaseSegmentation, {"model_file": pair_file})}[
        by
    ]
    both, large, largest = (
        evaluate(collection(*melt), cls(**fixed, **options))
        for options in ({"min_volume": 50.0}, {"min_volume": 1500.0}, {"keep": "largest"})
    )
    assert both.attributes["PhaseSegmentation.n_domains"] == 2
    for data in (both, large, largest):
        assert area_of(data) == pytest.approx(data.attributes["PhaseSegmentation.interface_area"], rel=0.1)
    assert area_of(large) < 0.9 * area_of(both)
    assert area_of(largest) == area_of(large)
    far = np.linalg.norm(large.surfaces["phase-interface"].get_vertices() - 0.3 * 36.0, axis=1)
    assert far.max() < 13.0


@pytest.mark.parametrize("by", ["labels", "network"])
def test_domains_are_found_once(drop, pair_file, monkeypatch, by):
    """For the labels, the grid and the mesh together; a boundary and a look need no new ones."""
    calls, real = [], density.find_domains
    monkeypatch.setattr(
        density, "find_domains", lambda *args, **options: calls.append(1) or real(*args, **options)
    )
    modifier = WeakPhaseLabels() if by == "labels" else PhaseSegmentation(model_file=pair_file)
    pipeline = pipeline_of(drop, modifier)
    assert "phase-interface" in pipeline.compute().surfaces and len(calls) == 1
    modifier.boundary_width = 1.0
    pipeline.compute()
    assert len(calls) == 1
    modifier.keep = "largest"
    pipeline.compute()
    assert len(calls) == 2


def test_appearance_of_mesh_and_colors(drop):
    modifier = WeakPhaseLabels(color_by_phase=True)
    modifier.interface_vis.surface_transparency = 0.1
    drop.apply(modifier)
    surface = drop.surfaces["phase-interface"]
    assert surface.title == "Phase interface"
    assert surface.vis.surface_transparency == pytest.approx(0.1)
    colors = np.array([entry.color for entry in PHASE_CLASSES])
    np.testing.assert_allclose(drop.particles.colors, colors[drop.particles["Phase"]], atol=1e-6)
    drop.apply(ColorByTypeModifier(property="Phase"))
    np.testing.assert_allclose(drop.particles.colors, colors[drop.particles["Phase"]], atol=1e-6)


def test_one_phase_has_no_interface(drop):
    types = drop.particles_["Particle Type_"]
    types[...] = np.random.default_rng(1).permutation(types[...])
    drop.apply(WeakPhaseLabels())
    assert drop.attributes["PhaseSegmentation.n_phases"] == 1
    assert "phase-interface" not in drop.surfaces
    assert set(np.unique(drop.particles["Phase"])) <= {0, 1}
    assert np.isnan(drop.particles["Interface Distance"]).all()
    drop.apply(WeakPhaseLabels(phases="2", min_volume=0.0))
    assert "phase-interface.2" in drop.surfaces
    assert np.isfinite(drop.particles["Interface Distance 2"]).all()


def test_property_of_the_same_name_is_replaced(drop):
    drop.particles_.create_property("Phase", data=np.zeros(drop.particles.count))
    drop.particles_.create_property("Phase Density", data=np.zeros((drop.particles.count, 2)))
    drop.particles_.create_property("Domain", data=["a"] * drop.particles.count)
    drop.apply(WeakPhaseLabels())
    assert drop.particles["Phase"].dtype == np.int32
    assert drop.particles["Phase Density"].ndim == 1
    assert drop.particles["Domain"].dtype == np.int32


def test_foreign_names_of_the_types_are_replaced(drop):
    prop = drop.particles_.create_property("Phase", data=np.zeros(drop.particles.count, dtype=np.int32))
    prop.types.append(ElementType(id=0, name="liquid", color=(1, 1, 1)))
    drop.apply(WeakPhaseLabels())
    phase = drop.particles["Phase"]
    assert [phase.type_by_id(entry.id).name for entry in PHASE_CLASSES] == ["poor", "rich", "boundary"]


def test_two_dimensional_cell():
    """A disk in a 2D cell whose third vector is missing."""
    rng = np.random.default_rng(0)
    positions = np.column_stack([rng.random((1500, 2)) * 60.0, np.zeros(1500)])
    inside = np.linalg.norm(positions - [30.0, 30.0, 0.0], axis=1) < 16.0
    symbols = np.where(rng.random(1500) < np.where(inside, 0.97, 0.03), "Fe", "O")
    data = collection(positions, symbols, np.diag([60.0, 60.0, 0.0]), (True, True, False))
    data.cell_.is2D = True
    data.apply(WeakPhaseLabels(sigma=2.0, phases="2", min_volume=50.0))
    rich = data.particles["Phase"][...] == 1
    assert np.mean(rich == inside) > 0.9
    assert "phase-interface" not in data.surfaces
    assert "no surface mesh" in data.attributes["PhaseSegmentation.messages"]
    assert data.grids["phase-density"].shape[2] == 1


def test_trajectory(demo, runs):
    path = demo("melt_small_3000K")
    pipeline = imported(path)
    modifier = WeakPhaseLabels()
    pipeline.modifiers.append(modifier)
    frames = list(read_frames(path, frames=slice(0, 4)))
    for count, number in enumerate((0, 3, 1), start=1):
        data = pipeline.compute(number)
        assert len(runs) == count
        expected = label_phases(frames[number])
        runs.pop()
        np.testing.assert_array_equal(data.particles["Phase"], expected["phase"])
        assert data.attributes["PhaseSegmentation.threshold"] == expected["threshold"]
    modifier.boundary_width = 1.0
    pipeline.compute(1)
    assert len(runs) == 3
    pipeline.compute(0)  # only the current frame is kept
    assert len(runs) == 4


def test_one_modifier_in_two_pipelines(make_drops):
    modifier = WeakPhaseLabels()
    pipelines, expected = [], []
    for seed in (1, 2):
        data = collection(*make_drops(seed=seed))
        pipelines.append(pipeline_of(data, modifier))
        expected.append(apply(data, boundary_width=2.0).particles["Phase"][...])
    for pipeline in pipelines:
        pipeline.compute()
    modifier.boundary_width = 2.0
    for pipeline, phase in zip(pipelines, expected, strict=True):
        np.testing.assert_array_equal(pipeline.compute().particles["Phase"], phase)


# Types


def test_types_name_the_species(make_drops):
    positions, symbols, cell = make_drops()
    named, unnamed = collection(positions, symbols, cell), collection(positions, symbols, cell, named=False)
    named.apply(WeakPhaseLabels())
    unnamed.apply(WeakPhaseLabels(types=" Fe, O"))
    np.testing.assert_array_equal(named.particles["Phase"], unnamed.particles["Phase"])
    with pytest.raises(ValueError, match=r"Weak phase labels: particle type 1, 2 has no name"):
        apply(collection(positions, symbols, cell, named=False))
    with pytest.raises(ValueError, match=r"particle type 2 has no name \(named: 1 = Fe\)"):
        apply(collection(positions, symbols, cell), types="Fe")


def test_several_species_and_two_types_of_one_name(make_drops):
    positions, symbols, cell = make_drops()
    symbols = symbols.astype("U4")
    symbols[np.flatnonzero(symbols == "Fe")[::2]] = "Ni"
    data = collection(positions, symbols, cell)
    data.apply(WeakPhaseLabels(species="Fe, Ni"))
    same = collection(positions, symbols, cell)
    same.apply(WeakPhaseLabels(types="Fe,Fe,O"))
    np.testing.assert_array_equal(data.particles["Phase"], same.particles["Phase"])
    assert same.tables["phase-composition"].y.component_names == ("Fe", "O")


# Bad input


def test_values_that_no_rule_allows(drop):
    for name, value in {"threshold": "mean", "sigma": -1.0, "phases": 3, "min_volume": "x"}.items():
        with pytest.raises(TraitError, match=name):
            WeakPhaseLabels(**{name: value})
    for name, value in {"voxel": -1.0, "min_volume": -2.0, "boundary_width": -0.1}.items():
        with pytest.raises(ValueError, match=f"Weak phase labels: {name} must be"):
            apply(drop, **{name: value})


def test_bad_input(drop):
    def without(change):
        data = drop.clone()
        change(data)
        return data

    with pytest.raises(
        ValueError, match=r"^Weak phase labels: no species named 'Xx'; the species here are Fe, O"
    ):
        apply(drop, species="Xx")
    with pytest.raises(ValueError, match=r"^Weak phase labels: the input has no particles"):
        apply(DataCollection())
    with pytest.raises(ValueError, match=r"^Weak phase labels: the input has no simulation cell"):
        apply(without(lambda data: data.objects.remove(data.cell)))
    with pytest.raises(ValueError, match=r"^Weak phase labels: the particles have no types"):
        apply(without(lambda data: data.particles_.__delitem__("Particle Type")))
    with pytest.raises(ValueError, match=r"^Weak phase labels: sigma is 20 Å, more than half"):
        apply(drop, sigma=20.0)
    with pytest.raises(ValueError, match=r"^Weak phase labels: voxels of 0.001 Å .* GB"):
        apply(drop, voxel=0.001)

    def spoil(data):
        data.particles_.positions_[7, 2] = np.nan

    with pytest.raises(ValueError, match=r"^Weak phase labels: atom 8 has the coordinates"):
        apply(without(spoil))


ODD = ["2024-01-01 12:00", "", np.arange(3.0), [1, 2], {"a": 1}, np.nan, np.inf, 2**62, True, 1e30, 2.5]


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("name", ["Time", "Timestep", "SourceFrame", "SourceFile"])
def test_attributes_that_are_no_numbers(drop, name, value):
    """A date as time, arrays: the frame has no such number, and everything else is as without it."""
    expected = apply(drop)
    drop.attributes[name] = value
    data = apply(drop)
    np.testing.assert_array_equal(data.particles["Phase"], expected.particles["Phase"])
    frame = frame_from_data(data)
    assert frame.time is None or np.isfinite(frame.time)
    assert frame.timestep is None or type(frame.timestep) is int
    assert frame.index is None or type(frame.index) is int


def test_numbers_of_the_frame_in_attributes(drop):
    drop.attributes.update({"Time": np.float32(1.5), "Timestep": 100.0, "SourceFrame": np.int64(7)})
    drop.attributes.update({"temperature": 0.64, "sample": "a", "GlassMetrics.n_bb_edges": 3})
    frame = frame_from_data(drop)
    assert (frame.time, frame.timestep, frame.index) == (1.5, 100, 7)
    assert frame.info == {"temperature": 0.64}
    assert not frame.messages
    drop.attributes["Time"] = "2024-01-01"
    messages = apply(drop).attributes["PhaseSegmentation.messages"]
    assert "'Time'" in messages and "2024-01-01" in messages


def test_type_ids_far_apart(drop):
    expected = apply(drop)
    ids = drop.particles_["Particle Type_"]
    ids[...] = np.where(np.array(ids[...]) == 1, -2_000_000_000, 2_000_000_000)
    for entry, number in zip(list(ids.types), (-2_000_000_000, 2_000_000_000), strict=True):
        ids.make_mutable(entry).id = number
    np.testing.assert_array_equal(apply(drop).particles["Phase"], expected.particles["Phase"])


def test_the_file_is_named_in_errors(demo):
    pipeline = imported(demo("melt_small_3000K"))
    pipeline.modifiers.append(WeakPhaseLabels(species="Xx"))
    with pytest.raises(
        ValueError, match=r"^Weak phase labels: melt_small_3000K.dump.gz, frame 2: no species"
    ):
        pipeline.compute(2)


# The rules of OVITO


def test_every_parameter_of_the_rule_is_a_trait_with_its_default():
    assert WeakPhaseLabels().rule() == LabelRule()
    modifier = WeakPhaseLabels(
        threshold="number", threshold_value=0.04, phases="2", voxel=0.0, species="Fe,Ni"
    )
    assert modifier.rule() == LabelRule(species=("Fe", "Ni"), threshold=0.04, phases=2)
    changed = {
        "sigma": 1.0, "voxel": 0.6, "field": "mole-fraction", "threshold": "two-means", "at": "voxel",
        "keep": "largest", "min_volume": 1.0, "boundary_width": 2.0, "bulk_distance": 3.0,
    }  # fmt: skip
    assert WeakPhaseLabels(**changed).rule() == LabelRule(**changed)


# Files read back


def assert_restored(data, expected):
    phase = data.particles["Phase"]
    np.testing.assert_array_equal(phase[...], expected["phase"])
    assert phase.dtype == np.int32
    assert [phase.type_by_id(entry.id).name for entry in PHASE_CLASSES] == ["poor", "rich", "boundary"]
    for name in ("phase_density", "interface_distance"):
        np.testing.assert_allclose(data.particles[TITLES[name]], expected[name], rtol=1e-6)
    np.testing.assert_array_equal(data.particles["Domain"], expected["domain"])
    assert data.particles["Domain"].dtype == np.int32
    extra = set(data.particles) - {
        "Position",
        "Particle Type",
        "Particle Identifier",
        "Color",
        *TITLES.values(),
    }
    assert not extra


@pytest.fixture(scope="module")
def labeled(demo):
    frame = next(read_frames(demo("melt_small_3000K")))
    return frame, label_phases(frame)


@pytest.mark.parametrize("name", ["labeled.xyz", "labeled.dump", "labeled.dump.gz"])
def test_restore_from_our_files(labeled, tmp_path, name):
    frame, fields = labeled
    write_frames(tmp_path / name, [(frame, fields)])
    pipeline = import_file(str(tmp_path / name))
    pipeline.modifiers.append(RestorePhaseTypes(color_by_phase=True))
    data = pipeline.compute()
    assert_restored(data, fields)
    colors = np.array([entry.color for entry in PHASE_CLASSES])
    np.testing.assert_allclose(data.particles.colors, colors[fields["phase"]], atol=1e-6)


@pytest.mark.parametrize(("kind", "name"), [("xyz", "out.xyz"), ("lammps/dump", "out.dump")])
def test_restore_from_files_of_ovito(labeled, demo, tmp_path, kind, name):
    _, fields = labeled
    pipeline = imported(demo("melt_small_3000K"))
    pipeline.modifiers.append(WeakPhaseLabels())
    columns = ["Particle Identifier", "Particle Type", "Position.X", "Position.Y", "Position.Z"]
    export_file(pipeline, str(tmp_path / name), kind, columns=[*columns, *TITLES.values()], frame=0)
    back = import_file(str(tmp_path / name))
    back.modifiers.append(RestorePhaseTypes())
    assert_restored(back.compute(), fields)


def test_restore_from_ase(labeled, tmp_path):
    import ase
    import ase.io

    from ase_bridge import annotate

    frame, fields = labeled
    symbols = np.array(frame.species_names)[frame.species]
    atoms = ase.Atoms(symbols, positions=frame.positions, cell=frame.cell, pbc=True)
    annotate(atoms)
    ase.io.write(tmp_path / "ase.xyz", atoms)
    pipeline = import_file(str(tmp_path / "ase.xyz"))
    pipeline.modifiers.append(RestorePhaseTypes())
    data = pipeline.compute()
    np.testing.assert_array_equal(data.particles["Phase"], fields["phase"])


def test_restore_leaves_labels_as_they_are(drop):
    drop.apply(WeakPhaseLabels())
    before = {title: drop.particles[title][...].copy() for title in TITLES.values()}
    drop.apply(RestorePhaseTypes())
    for title, values in before.items():
        np.testing.assert_array_equal(drop.particles[title], values)
        assert drop.particles[title].dtype == values.dtype


def test_restore_names_what_is_wrong(drop):
    def restore(data, **parameters):
        return evaluate(data, RestorePhaseTypes(**parameters))

    with pytest.raises(
        ValueError, match=r"^Restore phase types: the particles have no property 'phase'; the prop"
    ):
        restore(drop)
    with pytest.raises(ValueError, match="no property 'mine'"):
        restore(drop, column="mine")
    with pytest.raises(ValueError, match=r"^Restore phase types: the input has no particles"):
        restore(DataCollection())
    drop.particles_.create_property("phase", data=np.full(drop.particles.count, 0.5))
    with pytest.raises(
        ValueError, match=r"the property 'phase' contains 0.5, which is not a phase \(0 = poor"
    ):
        restore(drop)
    drop.particles_.create_property("mine", data=["liquid"] * drop.particles.count)
    with pytest.raises(ValueError, match="contains 'liquid'"):
        restore(drop, column="mine")
    with pytest.raises(ValueError, match="has 3 components"):
        restore(drop, column="Position")


def test_tables_with_names_of_residues_and_molecules():
    """OVITO does not allow `:` and `/` in the names of properties."""
    frame = Frame(
        np.random.default_rng(0).random((600, 3)) * [30, 15, 15], [30.0, 15.0, 15.0], True,
        np.where(np.arange(600) % 2, "H", "O"), molecules=np.arange(600) // 2 + 1,
        categories={"residue": Category.of(np.where(np.arange(600) < 300, "SOL", "A/B.C"))},
    )  # fmt: skip
    fields = label_phases(frame, "residue:SOL", sigma=2.0, phases=2, min_volume=0.0)
    data = DataCollection()
    convert.put_tables(data, fields, "phase-")
    assert "residue SOL" in data.tables["phase-proxigram"]["Density (Å^-3)"].component_names
    assert data.tables["phase-composition"]["Content (mol%)"].component_names == ("SOL", "A per B_C")


def test_one_quantity_of_several_parts_is_one_plot():
    """Curves named by their part; errors, other quantities and texts stay columns of their own."""
    x, density = Column("mobility", "σ"), [Column("density", "σ^-1", part=part) for part in "AB"]
    table = Table(
        "Distribution", {x: [0.1, 0.2], density[0]: [1.0, 2], density[1]: [3.0, 4], Column("n"): [5, 6]}
    )
    data = DataCollection()
    convert.put_tables(data, Fields({"proxigram": table}), "mine-")
    made = data.tables["mine-proxigram"]
    curves = made["density (σ^-1)"]
    assert curves.component_names == ("A", "B") and made.y.name == "density (σ^-1)"
    np.testing.assert_array_equal(curves, [[1, 3], [2, 4]])
    assert made.x[...].tolist() == [0.1, 0.2] and made["n"][...].tolist() == [5, 6]
