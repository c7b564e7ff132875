"""The OVITO face of the networks for two liquids: outputs, files read back, bad input."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ovito")

from ovito.io import export_file, import_file
from traits.api import TraitError

from faces.ovito_data import area_of, collection, evaluate, imported, pipeline_of
from ovito_phaseseg import PhaseSegmentation, RestorePhaseTypes
from phaseseg import Frame, load_model, predict
from phaseseg.checkpoint import save_checkpoint
from phaseseg.families.segmentation.fields import PHASE_CLASSES
from phaseseg.io import read_frames, write_frames
from phaseseg.specs import FIELD_SPECS
from phaseseg.viewer import Scene

ATOM = ("phase", "phase_probability", "phase_uncertainty", "interface_distance", "domain")


@pytest.fixture
def drop(make_drops):
    return collection(*make_drops())


def apply(data, **parameters):
    return evaluate(data, PhaseSegmentation(**parameters))


def test_particle_properties_are_those_of_the_library(make_drops, pair_file):
    positions, symbols, cell = make_drops()
    data = collection(positions, symbols, cell)
    data.apply(PhaseSegmentation(model_file=pair_file, threshold=0.4, boundary_width=1.2))
    frame = Frame(positions=positions, cell=cell, pbc=True, species=symbols)
    expected = predict(frame, pair_file, threshold=0.4, boundary_width=1.2)
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
    assert data.attributes["PhaseSegmentation.model_sha256"] == load_model(pair_file).checkpoint.hash
    assert set(data.tables) == {
        "phase-composition", "phase-partition", "phase-domains", "phase-proxigram"
    }  # fmt: skip
    assert "Color" not in data.particles


def test_grid_and_interface(drop, pair_file):
    drop.apply(PhaseSegmentation(model_file=pair_file, threshold=0.3))
    level = drop.attributes["PhaseSegmentation.score_threshold"]
    assert drop.attributes["PhaseSegmentation.probability_threshold"] == 0.3 and level < 0
    grid = drop.grids["phase-score"]
    assert grid["Phase Score"][...].min() < level < grid["Phase Score"][...].max() and not grid.vis.enabled
    assert area_of(drop) == pytest.approx(drop.attributes["PhaseSegmentation.interface_area"], rel=0.05)
    distance = drop.particles["Interface Distance"][...]
    assert 7 < distance.max() < 10  # the drop has a radius of 9 Å


def test_a_learned_boundary_has_three_components(drop, pair_file):
    drop.apply(PhaseSegmentation(model_file=pair_file, boundary="learned"))
    assert drop.particles["Phase Probability"].component_names == ("poor", "rich", "boundary")
    drop.apply(PhaseSegmentation(model_file=pair_file))
    assert drop.particles["Phase Probability 2"].component_names == ("poor", "rich")


def test_colors(drop, pair_file, make_drops):
    colors = np.array([entry.color for entry in PHASE_CLASSES])
    by_phase = apply(drop, model_file=pair_file, color_by="phase")
    np.testing.assert_allclose(by_phase.particles.colors, colors[by_phase.particles["Phase"]], atol=1e-6)
    by_probability = apply(drop, model_file=pair_file, color_by="probability")
    rich = by_probability.particles["Phase Probability"][:, 1]
    # The viewer shows the same probability in the same color.
    positions, symbols, cell = make_drops()
    scene = Scene(color="phase_probability.rich")
    frame = Frame(positions=positions, cell=cell, pbc=True, species=symbols)
    scene.add(frame, {"phase_probability": np.stack([1 - rich, rich], axis=1)})
    np.testing.assert_allclose(by_probability.particles.colors, scene._colors(*scene.first), atol=0.05)
    assert np.ptp(rich) > 0.5
    by_doubt = apply(drop, model_file=pair_file, color_by="uncertainty")
    light = by_doubt.particles.colors[...].sum(axis=1)
    doubt = by_doubt.particles["Phase Uncertainty"][...]
    assert light[doubt.argmax()] == light.max() and light[doubt.argmin()] == light.min()


def test_a_file_that_was_written_anew_is_read_anew(drop, runs, tmp_path, make_checkpoint):
    path = tmp_path / "mine.safetensors"
    modifier = PhaseSegmentation(model_file=str(path))
    pipeline = pipeline_of(drop, modifier)
    found = []
    for cut in (0.45, 0.6):
        save_checkpoint(make_checkpoint(species=("Fe", "O"), cut=cut), path)
        modifier.threshold = 0.5 + 0.001 * cut  # something that keeps the cache
        found.append(np.array(pipeline.compute().particles["Phase"]))
    assert len(runs) == 2 and (found[0] != found[1]).any()


def test_frames_of_a_trajectory(demo, checkpoint_file, runs):
    frames = list(read_frames(demo("melt_small_3000K")))[:2]
    pipeline = imported(demo("melt_small_3000K"))
    pipeline.modifiers.append(PhaseSegmentation(model_file=str(checkpoint_file)))
    for number, frame in enumerate(frames):
        data = pipeline.compute(number)
        np.testing.assert_array_equal(data.particles["Phase"], predict(frame, checkpoint_file)["phase"])
    assert len(runs) == 4


# Bad input


def test_bad_input(drop, pair_file, checkpoint_file, tmp_path):
    for name, value in {"threshold": 1.0, "boundary": "wide", "device": "tpu", "color_by": "x"}.items():
        with pytest.raises(TraitError, match=name):
            PhaseSegmentation(**{name: value})
    with pytest.raises(TypeError, match="PhaseSegmentation has no parameter treshold"):
        PhaseSegmentation(treshold=0.4)
    with pytest.raises(ValueError, match=r"^Phase segmentation: .*there is no such file"):
        apply(drop, model_file=str(tmp_path / "none.safetensors"))
    with pytest.raises(
        ValueError, match=r"^Phase segmentation: boundary_width must be finite and at least 0"
    ):
        apply(drop, model_file=pair_file, boundary_width=-1.0)
    with pytest.raises(ValueError, match=r"^Phase segmentation: .* does not predict a boundary class"):
        apply(drop, model_file=str(checkpoint_file), boundary="learned")
    with pytest.raises(ValueError, match=r"does not know the species Xe; it knows Fe, O\.$"):
        apply(drop, model_file=pair_file, types="Fe,Xe")
    empty = drop.clone()
    empty.objects.remove(empty.cell)
    with pytest.raises(ValueError, match=r"^Phase segmentation: the input has no simulation cell"):
        apply(empty, model_file=pair_file)


# Files read back


@pytest.mark.parametrize("writer", ["ours", "ovito"])
def test_restore_from_extended_xyz(demo, checkpoint_file, tmp_path, writer):
    frame = next(read_frames(demo("melt_small_3000K")))
    fields = predict(frame, checkpoint_file)
    path = str(tmp_path / "predicted.xyz")
    if writer == "ours":
        write_frames(path, [(frame, fields)])
    else:
        pipeline = imported(demo("melt_small_3000K"))
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
