"""Several of our modifiers in one pipeline: each keeps its outputs, named as OVITO numbers them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ovito")

from ovito.modifiers import (
    CreateIsosurfaceModifier,
    DeleteSelectedModifier,
    ExpressionSelectionModifier,
    SliceModifier,
)

from faces.ovito_data import collection, collection_of, evaluate, imported, pipeline_of
from ovito_phaseseg import (
    GlassClassifier,
    GlassMetrics,
    PhaseSegmentation,
    RestorePhaseTypes,
    WeakPhaseLabels,
)


@pytest.fixture
def drop(make_drops):
    return collection(*make_drops())


def arrays_of(table):
    return {name: np.array(table[name]) for name in table}


def assert_outputs(data, alone, number, prefix="PhaseSegmentation."):
    """Gives the number to the outputs of a modifier, and compares them with those of the modifier alone."""
    end, title = (f".{number}", f" {number}") if number > 1 else ("", "")
    new = set(alone.particles) - {"Position", "Particle Type", "Particle Identifier", "Color"}
    assert new
    for name in new:
        found = data.particles[name + title]
        np.testing.assert_array_equal(found[...], alone.particles[name][...], err_msg=name)
        assert found.component_names == alone.particles[name].component_names
        assert [kind.name for kind in found.types] == [kind.name for kind in alone.particles[name].types]
    for name in set(alone.tables):
        found, expected = arrays_of(data.tables[name + end]), arrays_of(alone.tables[name])
        np.testing.assert_equal(found, expected)
        assert data.tables[name + end].y.component_names == alone.tables[name].y.component_names
    for name in set(alone.grids):
        np.testing.assert_equal(arrays_of(data.grids[name + end]), arrays_of(alone.grids[name]))
        assert data.grids[name + end].shape == alone.grids[name].shape
    for name in set(alone.surfaces):
        np.testing.assert_array_equal(
            data.surfaces[name + end].get_vertices(), alone.surfaces[name].get_vertices()
        )
    for name, value in alone.attributes.items():
        if name.startswith(prefix) and not name.endswith("messages"):
            np.testing.assert_equal(data.attributes[name + end], value, err_msg=name)
    assert alone.attributes[prefix + "messages"] in data.attributes[f"{prefix}messages{end}"]


def assert_all_kept(data, *results, **options):
    for number, alone in enumerate(results, start=1):
        assert_outputs(data, alone, number, **options)
    for kind in ("tables", "grids", "surfaces"):
        found, expected = getattr(data, kind), [getattr(alone, kind) for alone in results]
        assert len(found) == sum(map(len, expected)), kind


PAIRS = {
    "two sigmas": ((WeakPhaseLabels, {"sigma": 1.5}), (WeakPhaseLabels, {"sigma": 2.5, "voxel": 1.0})),
    "two species": ((WeakPhaseLabels, {}), (WeakPhaseLabels, {"species": "O", "types": "Fe,O"})),
    "types merged": ((WeakPhaseLabels, {"types": "Fe,Fe"}), (WeakPhaseLabels, {"types": "Fe,O"})),
    "labels, network": ((WeakPhaseLabels, {}), (PhaseSegmentation, {})),
    "network, labels": ((PhaseSegmentation, {}), (WeakPhaseLabels, {"sigma": 2.0})),
    "the same twice": ((WeakPhaseLabels, {}), (WeakPhaseLabels, {})),
    "table as attributes": ((PhaseSegmentation, {"table_attributes": True}), (PhaseSegmentation, {})),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=list(PAIRS))
def test_two_phase_modifiers(drop, pair_file, pair):
    def made(cls, options):
        return cls(**options, **({"model_file": pair_file} if cls is PhaseSegmentation else {}))

    results = [evaluate(drop, made(*one)) for one in pair]
    pipeline = pipeline_of(drop, *(made(*one) for one in pair))
    data = pipeline.compute()
    assert_all_kept(data, *results)
    assert "Phase 2" in data.attributes["PhaseSegmentation.messages.2"]
    # The number is that in the order of the pipeline, of the modifiers that are switched on.
    pipeline.modifiers[0].enabled = False
    assert_all_kept(pipeline.compute(), results[1])


def test_three_in_a_pipeline_and_one_object_twice(drop):
    modifier, other = WeakPhaseLabels(), WeakPhaseLabels(sigma=2.0)
    results = [evaluate(drop, one) for one in (modifier, other, modifier)]
    assert_all_kept(pipeline_of(drop, modifier, other, modifier).compute(), *results)
    for one in (modifier, other, modifier):
        drop.apply(one)
    assert_all_kept(drop, *results)


def test_particles_removed_between_two(drop):
    cut = SliceModifier(distance=15.0, normal=(0, 0, 1))
    labels = WeakPhaseLabels()
    data = pipeline_of(drop, labels, cut, labels).compute()
    sliced = pipeline_of(drop, cut).compute()
    assert 0 < data.particles.count == sliced.particles.count < drop.particles.count
    assert_outputs(data, evaluate(sliced, labels), 2)
    poor = (ExpressionSelectionModifier(expression="Phase == 0"), DeleteSelectedModifier())
    rich = pipeline_of(drop, labels, *poor).compute()
    again = pipeline_of(drop, labels, *poor, WeakPhaseLabels(phases="2")).compute()
    np.testing.assert_array_equal(again.particles["Phase"], rich.particles["Phase"])
    assert len(again.particles["Phase 2"]) == again.particles.count


def test_the_demo_over_its_frames(demo):
    pipeline = imported(demo("melt_small_3000K"))
    modifiers = WeakPhaseLabels(species="Fe"), PhaseSegmentation()
    for modifier in modifiers:
        pipeline.modifiers.append(modifier)
    for number in (0, 2):
        raw = pipeline.source.compute(number)
        assert_all_kept(pipeline.compute(number), *(evaluate(raw, one) for one in modifiers))


def test_an_isosurface_of_the_user_is_kept(drop):
    """It has the identifier that OVITO's modifier uses, and so has ours while it is made."""
    mine = CreateIsosurfaceModifier(
        operate_on="voxels:phase-density", property="Phase Density", isolevel=0.01
    )
    labels = WeakPhaseLabels()
    before = pipeline_of(drop, labels, mine).compute()
    data = pipeline_of(drop, labels, mine, WeakPhaseLabels(sigma=2.5)).compute()
    vertices = before.surfaces["isosurface"].get_vertices()
    np.testing.assert_array_equal(data.surfaces["isosurface"].get_vertices(), vertices)
    assert_outputs(data, evaluate(drop, WeakPhaseLabels(sigma=2.5)), 2)
    assert set(data.surfaces) == {"phase-interface", "isosurface", "phase-interface.2"}


def test_two_glass_modifiers(make_disorder, glass_file, run_file):
    data = collection_of(make_disorder(289))
    first, second = GlassMetrics(), GlassMetrics(k=4, rule="b-only")
    results = [evaluate(data, one) for one in (first, second)]
    both = pipeline_of(data, first, second).compute()
    assert_all_kept(both, *results, prefix="GlassMetrics.")
    bonds, counts = both.particles.bonds, [one.particles.bonds.count for one in results]
    assert bonds.count == sum(counts)
    kinds = {kind.name: kind.id for kind in bonds.bond_types.types}
    assert set(kinds) == {"A-B", "B-B", "A-B 2", "B-B 2"}
    assert np.isin(bonds.bond_types[...], [kinds["A-B 2"], kinds["B-B 2"]]).sum() == counts[1]

    classifiers = [GlassClassifier(model_file=glass_file, threshold=value) for value in (0.3, 0.6)]
    results = [evaluate(data, one) for one in classifiers]
    assert_all_kept(pipeline_of(data, *classifiers).compute(), *results, prefix="GlassClassifier.")
    # Modifiers whose outputs have other names need no number.
    mixed = pipeline_of(data, first, classifiers[0]).compute()
    assert_outputs(mixed, results[0], 1, prefix="GlassClassifier.")

    pipeline = imported(run_file)
    for one in (first, second):
        pipeline.modifiers.append(one)
        one.trajectory_table = True
    tables = pipeline.compute().tables
    assert {"glass-metrics-frames", "glass-metrics-frames.2"} <= set(tables)
    assert not np.array_equal(tables["glass-metrics-frames"].y, tables["glass-metrics-frames.2"].y)


def test_labels_of_a_file_stay_beside_new_ones(drop):
    """Restored labels count as a modifier; labels that nothing has restored are replaced, and it is said."""
    labels = WeakPhaseLabels()
    new = evaluate(drop, labels)
    old = np.zeros(drop.particles.count, dtype=np.int32)
    drop.particles_.create_property("phase", data=old)
    data = pipeline_of(drop, RestorePhaseTypes(), labels).compute()
    np.testing.assert_array_equal(data.particles["Phase"], old)
    assert_outputs(data, new, 2)
    data = pipeline_of(drop, labels, RestorePhaseTypes()).compute()
    np.testing.assert_array_equal(data.particles["Phase 2"], old)
    assert_outputs(data, new, 1)
    data = pipeline_of(drop, labels, RestorePhaseTypes(column="Phase")).compute()
    assert_outputs(data, new, 1)

    drop.particles_.create_property("Phase", data=old)
    data = evaluate(drop, labels)
    np.testing.assert_array_equal(data.particles["Phase"], new.particles["Phase"])
    assert "'Phase'" in data.attributes["PhaseSegmentation.messages"]
    data = pipeline_of(drop, RestorePhaseTypes(column="Phase"), labels).compute()
    np.testing.assert_array_equal(data.particles["Phase"], old)
    assert_outputs(data, new, 2)
