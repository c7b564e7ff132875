"""The OVITO face of the networks: outputs, what runs the network anew, sessions, bad input."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ovito")

from ovito.io import export_file, import_file
from ovito.pipeline import Pipeline, StaticSource
from traits.api import TraitError

from faces.test_ovito import area_of, collection, python
from ovito_phaseseg import PhaseSegmentation, RestorePhaseTypes
from ovito_phaseseg.modifiers import DEFAULT_MODEL, MODELS
from phaseseg import Frame, load_model, predict
from phaseseg.checkpoint import save_checkpoint
from phaseseg.families.segmentation.fields import PHASE_CLASSES
from phaseseg.io import read_frames, write_frames
from phaseseg.specs import FIELD_SPECS

ATOM = ("phase", "phase_probability", "phase_uncertainty", "interface_distance", "domain")


@pytest.fixture(scope="module")
def pair(tmp_path_factory, make_checkpoint):
    """File of an ensemble for Fe and O; it knows the boundary, too."""
    path = tmp_path_factory.mktemp("checkpoints") / "pair-v1.safetensors"
    save_checkpoint(
        make_checkpoint("segmentation/pair-v1", n_members=2, species=("Fe", "O"), outputs=3), path
    )
    return str(path)


@pytest.fixture
def drop(make_drops):
    return collection(*make_drops())


@pytest.fixture
def runs(monkeypatch):
    """Counts how often a network runs."""
    from phaseseg.families.segmentation.model import SegmentationModel

    calls = []
    real = SegmentationModel.score

    def counted(self, frame, **options):
        calls.append(frame)
        return real(self, frame, **options)

    monkeypatch.setattr(SegmentationModel, "score", counted)
    return calls


def apply(data, **parameters):
    pipeline = Pipeline(source=StaticSource(data=data))
    pipeline.modifiers.append(PhaseSegmentation(**parameters))
    return pipeline.compute()


def test_particle_properties_are_those_of_the_library(make_drops, pair):
    positions, symbols, cell = make_drops()
    data = collection(positions, symbols, cell)
    data.apply(PhaseSegmentation(model_file=pair, threshold=0.4, boundary_width=1.2))
    frame = Frame(positions=positions, cell=cell, pbc=True, species=symbols)
    expected = predict(frame, pair, threshold=0.4, boundary_width=1.2)
    assert expected["n_phases"] == 2
    for name in ATOM:
        np.testing.assert_array_equal(data.particles[FIELD_SPECS[name].title][...], expected[name], name)
    assert data.particles["Phase Probability"].component_names == ("poor", "rich")
    phase = data.particles["Phase"]
    assert [phase.type_by_id(entry.id).name for entry in PHASE_CLASSES] == ["poor", "rich", "boundary"]
    for name, value in expected.level("frame").items():
        np.testing.assert_equal(data.attributes["PhaseSegmentation." + name], value)
    assert data.attributes["PhaseSegmentation.messages"] == " ".join(expected.messages)
    assert data.attributes["PhaseSegmentation.model"] == "segmentation/pair-v1"
    assert data.attributes["PhaseSegmentation.model_sha256"] == load_model(pair).checkpoint.hash
    assert set(data.tables) == {
        "phase-composition", "phase-partition", "phase-domains", "phase-proxigram"
    }  # fmt: skip
    assert "Color" not in data.particles


def test_grid_and_interface(drop, pair):
    drop.apply(PhaseSegmentation(model_file=pair, threshold=0.3))
    level = drop.attributes["PhaseSegmentation.score_threshold"]
    assert drop.attributes["PhaseSegmentation.probability_threshold"] == 0.3 and level < 0
    grid = drop.grids["phase-score"]
    assert grid["Phase Score"][...].min() < level < grid["Phase Score"][...].max() and not grid.vis.enabled
    assert area_of(drop) == pytest.approx(drop.attributes["PhaseSegmentation.interface_area"], rel=0.05)
    distance = drop.particles["Interface Distance"][...]
    assert 7 < distance.max() < 10  # the drop has a radius of 9 Å


def test_dropped_domains_have_no_mesh(make_drops, pair):
    melt = make_drops(centers=((0.3, 0.3, 0.3), (0.8, 0.8, 0.8)), radii=(9.0, 5.5), cell=(36.0, 36.0, 36.0))
    both, largest = collection(*melt), collection(*melt)
    both.apply(PhaseSegmentation(model_file=pair, min_volume=50.0))
    largest.apply(PhaseSegmentation(model_file=pair, keep="largest"))
    assert both.attributes["PhaseSegmentation.n_domains"] == 2
    assert largest.attributes["PhaseSegmentation.n_domains"] == 1
    for data in (both, largest):
        assert area_of(data) == pytest.approx(data.attributes["PhaseSegmentation.interface_area"], rel=0.1)
    assert area_of(largest) < 0.9 * area_of(both)


def test_a_learned_boundary_has_three_components(drop, pair):
    drop.apply(PhaseSegmentation(model_file=pair, boundary="learned"))
    assert drop.particles["Phase Probability"].component_names == ("poor", "rich", "boundary")
    drop.apply(PhaseSegmentation(model_file=pair))
    assert drop.particles["Phase Probability"].component_names == ("poor", "rich")


def test_colors(drop, pair):
    colors = np.array([entry.color for entry in PHASE_CLASSES])
    by_phase = apply(drop, model_file=pair, color_by="phase")
    np.testing.assert_allclose(by_phase.particles.colors, colors[by_phase.particles["Phase"]], atol=1e-6)
    by_probability = apply(drop, model_file=pair, color_by="probability")
    rich = by_probability.particles["Phase Probability"][:, 1]
    np.testing.assert_allclose(by_probability.particles.colors[rich.argmax()], colors[1], atol=0.05)
    np.testing.assert_allclose(by_probability.particles.colors[rich.argmin()], colors[0], atol=0.05)
    by_doubt = apply(drop, model_file=pair, color_by="uncertainty")
    darkness = 3 - by_doubt.particles.colors[...].sum(axis=1)
    doubt = by_doubt.particles["Phase Uncertainty"][...]
    assert darkness[doubt.argmax()] == darkness.max() and darkness[doubt.argmin()] == darkness.min()


# What runs the network anew

KEPT = {
    "threshold": 0.3, "keep": "largest", "min_volume": 10.0, "boundary": "voxels", "boundary_width": 2.0,
    "bulk_distance": 3.0, "color_by": "phase", "interface_mesh": False, "voxel_grid": False,
}  # fmt: skip
ANEW = {"types": "Fe,O", "device": "cpu"}


def test_every_parameter_is_known_here():
    assert {*KEPT, *ANEW, "model", "model_file"} == set(PhaseSegmentation().parameters())
    for name in PhaseSegmentation().parameters():
        trait = PhaseSegmentation().trait(name)
        assert trait.label and trait.ovito_group, name


@pytest.mark.parametrize("name", [*KEPT, *ANEW])
def test_only_some_parameters_run_the_network(drop, pair, runs, name):
    pipeline = Pipeline(source=StaticSource(data=drop))
    modifier = PhaseSegmentation(model_file=pair)
    pipeline.modifiers.append(modifier)
    pipeline.compute()
    assert len(runs) == 1
    setattr(modifier, name, (KEPT | ANEW)[name])
    data = pipeline.compute()
    assert len(runs) == (1 if name in KEPT else 2)
    fresh = apply(drop, model_file=pair, **{name: (KEPT | ANEW)[name]})
    for title in ("Phase", "Interface Distance", "Phase Probability"):
        np.testing.assert_array_equal(data.particles[title], fresh.particles[title])


def test_a_file_that_was_written_anew_is_read_anew(drop, runs, tmp_path, make_checkpoint):
    path = tmp_path / "mine.safetensors"
    pipeline = Pipeline(source=StaticSource(data=drop))
    modifier = PhaseSegmentation(model_file=str(path))
    pipeline.modifiers.append(modifier)
    found = []
    for cut in (0.45, 0.6):
        save_checkpoint(make_checkpoint(species=("Fe", "O"), cut=cut), path)
        modifier.threshold = 0.5 + 0.001 * cut  # something that keeps the cache
        found.append(np.array(pipeline.compute().particles["Phase"]))
    assert len(runs) == 2 and (found[0] != found[1]).any()


def test_frames_of_a_trajectory(demo, checkpoint_file, runs):
    frames = list(read_frames(demo("melt_small_3000K")))[:2]
    pipeline = import_file(demo("melt_small_3000K"))
    pipeline.modifiers.append(PhaseSegmentation(model_file=str(checkpoint_file)))
    for number, frame in enumerate(frames):
        data = pipeline.compute(number)
        np.testing.assert_array_equal(data.particles["Phase"], predict(frame, checkpoint_file)["phase"])
    assert len(runs) == 4


def test_status_and_progress(drop, pair):
    steps = list(PhaseSegmentation(model_file=pair).modify(drop, frame=0))
    texts = [step for step in steps if isinstance(step, str)]
    numbers = [step for step in steps if isinstance(step, float)]
    assert any(text.startswith("segmentation/pair-v1 on") for text in texts)
    assert texts[-1].startswith("Two phases")
    assert numbers == sorted(numbers) and numbers[-1] == 1.0
    assert PhaseSegmentation(model_file=pair, threshold=0.3).get_pipeline_short_info(None) == (
        "pair-v1.safetensors, p ≥ 0.3"
    )
    assert PhaseSegmentation().get_pipeline_short_info() == "gat-v1, p ≥ 0.5"


# Bad input


def test_bad_input(drop, pair, checkpoint_file, tmp_path):
    for name, value in {"threshold": 1.0, "boundary": "wide", "device": "tpu", "color_by": "x"}.items():
        with pytest.raises(TraitError, match=name):
            PhaseSegmentation(**{name: value})
    with pytest.raises(TypeError, match="PhaseSegmentation has no parameter treshold"):
        PhaseSegmentation(treshold=0.4)
    with pytest.raises(ValueError, match=r"^Phase segmentation: .*there is no such file"):
        apply(drop, model_file=str(tmp_path / "none.safetensors"))
    with pytest.raises(ValueError, match=r"^Phase segmentation: boundary_width must be a number not below 0"):
        apply(drop, model_file=pair, boundary_width=-1.0)
    with pytest.raises(ValueError, match=r"^Phase segmentation: .* has not learned a boundary class"):
        apply(drop, model_file=str(checkpoint_file), boundary="learned")
    with pytest.raises(ValueError, match=r"does not know the species Xe; it knows Fe, O\.$"):
        apply(drop, model_file=pair, types="Fe,Xe")
    empty = drop.clone()
    empty.objects.remove(empty.cell)
    with pytest.raises(ValueError, match=r"^Phase segmentation: the input has no simulation cell"):
        apply(empty, model_file=pair)


def test_the_default_is_the_first_of_the_list():
    assert MODELS[0] == DEFAULT_MODEL == PhaseSegmentation().model


# Sessions and files


def test_session_keeps_parameters_and_no_network(demo, checkpoint_file, tmp_path):
    session = tmp_path / "session.ovito"
    every = KEPT | {"device": "cpu", "types": "Fe,Mg,Si,O,N", "model_file": str(checkpoint_file)}
    save = """
        import sys, ovito
        from ovito.io import import_file
        from ovito_phaseseg import PhaseSegmentation
        pipeline = import_file(sys.argv[1])
        pipeline.modifiers.append(PhaseSegmentation(**eval(sys.argv[3])))
        print(pipeline.compute().particles["Phase"][...].tolist())
        pipeline.add_to_scene()
        ovito.scene.save(sys.argv[2])
    """
    load = """
        import sys, ovito
        ovito.scene.load(sys.argv[1])
        pipeline = ovito.scene.pipelines[0]
        modifier = pipeline.modifiers[0].delegate
        print(pipeline.compute().particles["Phase"][...].tolist())
        print({name: getattr(modifier, name) for name in modifier.parameters()})
    """
    saved = python(save, demo("melt_small_3000K"), session, repr(every)).splitlines()
    loaded = python(load, session).splitlines()
    assert loaded[0] == saved[0]
    assert eval(loaded[1]) == every | {"model": DEFAULT_MODEL}
    assert session.stat().st_size < 40_000


def test_construction_is_light():
    out = python(
        """
        import sys, time
        import ovito.pipeline, ovito.traits, ovito.vis, traits.api
        start = time.process_time()
        import ovito_phaseseg
        ovito_phaseseg.PhaseSegmentation()
        print(time.process_time() - start)
        heavy = ("torch", "numba", "scipy", "sklearn", "ase", "matplotlib", "safetensors")
        print([name for name in heavy if name in sys.modules])
        """
    )
    seconds, loaded = out.splitlines()
    assert loaded == "[]" and float(seconds) < 0.1


@pytest.mark.parametrize("writer", ["ours", "ovito"])
def test_restore_from_extended_xyz(demo, checkpoint_file, tmp_path, writer):
    frame = next(read_frames(demo("melt_small_3000K")))
    fields = predict(frame, checkpoint_file)
    path = str(tmp_path / "predicted.xyz")
    if writer == "ours":
        write_frames(path, [(frame, fields)])
    else:
        pipeline = import_file(demo("melt_small_3000K"))
        pipeline.modifiers.append(PhaseSegmentation(model_file=str(checkpoint_file)))
        titles = [FIELD_SPECS[name].title for name in ATOM]
        columns = ["Particle Identifier", "Particle Type", "Position.X", "Position.Y", "Position.Z", *titles]
        export_file(pipeline, path, "xyz", columns=columns, frame=0)
    back = import_file(path)
    back.modifiers.append(RestorePhaseTypes())
    data = back.compute()
    for name in ATOM:
        np.testing.assert_allclose(data.particles[FIELD_SPECS[name].title], fields[name], rtol=1e-6)
    assert data.particles["Phase Probability"].component_names == ("poor", "rich")
