"""`phaseseg view`: a page from a file, with and without a network, and what it refuses."""

from __future__ import annotations

import json
import re
from html import unescape
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pytest

from faces.command_line import done, refused, run
from phaseseg import Frame, default_checkpoint, write_frames
from phaseseg.terminal.errors import INPUT, USAGE

DEMO = files("phaseseg") / "demo"
MELT = DEMO / "melt_small_3000K.dump.gz"
GLASS = DEMO / "glass_ka2d_s901.xyz.gz"


def about(path):
    return json.loads(re.search(r'id="scene">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)[1])


def test_what_is_in_the_file(tmp_path):
    page = tmp_path / "view.html"
    said = done("view", MELT, "-o", page, "--frames", "0:4:2")
    assert "520 atoms, 2 frames in 0." in said and f"Written: {page}" in said
    scene = about(page)
    assert (scene["title"], scene["color"]) == (MELT.name, "species")
    assert [one["label"].split(",")[0] for one in scene["frames"]] == ["frame 0", "frame 2"]


def test_predictions_with_interface(tmp_path):
    page = tmp_path / "view.html"
    done("view", MELT, "-m", "gat-v1", "--interface", "--species", "Fe", "-o", page, "--frames", "0")
    scene = about(page)
    assert scene["color"] == "phase" and scene["frames"][0]["mesh"]
    assert [one["name"] for one in scene["species"] if one["shown"]] == ["Fe"]
    assert {"phase", "phase_uncertainty"} <= {one["name"] for one in scene["columns"]}
    assert ["Number of phases", "2"] in scene["frames"][0]["numbers"]


def test_labels_in_a_file_keep_their_colors(tmp_path):
    """A file that `predict` wrote is shown as the prediction itself."""
    labeled, page = tmp_path / "labeled.xyz", tmp_path / "view.html"
    done("predict", MELT, "-o", labeled, "--frames", "0")
    done("view", labeled, "-o", page)
    scene = about(page)
    assert scene["color"] == "phase"
    assert [entry["name"] for entry in scene["columns"][0]["classes"]] == ["poor", "rich", "boundary"]
    done("view", labeled, "--color", "interface_distance", "-o", page)
    assert about(page)["color"] == "interface_distance"


def test_bonds_of_a_family_that_has_them(tmp_path):
    page = tmp_path / "view.html"
    done("view", GLASS, "-m", "dmpnn-attention-v1", "--frames", "0", "-o", page)
    scene = about(page)
    assert scene["dimensions"] == 2 and scene["color"] == "glass_probability"
    assert [bonds["shown"] for bonds in scene["frames"][0]["bonds"]] == ["kept"]


def test_refusals(tmp_path):
    page = tmp_path / "view.html"
    refused(USAGE, "is written as .html", "view", MELT, "-o", tmp_path / "view.png")
    refused(USAGE, "--interface needs a network", "view", MELT, "--interface", "-o", page)
    refused(USAGE, "is an option of networks", "view", MELT, "--threshold", 0.4, "-o", page)
    refused(USAGE, "find no interface", "view", MELT, "-m", "mixture-v1", "--interface", "-o", page)
    refused(
        INPUT, "no field 'phas' to color by; choose from species", "view", MELT, "--color", "phas", "-o", page
    )
    refused(INPUT, "no atom is of species Xe", "view", MELT, "--species", "Xe", "-o", page)
    refused(INPUT, "there is no frame to show", "view", MELT, "--frames", "99:", "-o", page)
    assert not page.exists()


def test_a_file_without_a_cell(tmp_path):
    page, source = tmp_path / "view.html", tmp_path / "cluster.xyz"
    source.write_text("2\n\nFe 0 0 0\nO 1 1 1\n")
    said = done("view", source, "-o", page)
    assert "There is no cell in the file" in said and about(page)["frames"][0]["pbc"] == [False] * 3


def test_frames_beyond_memory_are_thinned_while_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("phaseseg.viewer.scene.MOST_ATOMS", 100)
    whole, thinned, words = tmp_path / "whole.html", tmp_path / "thinned.html", ("--frames", "0:4:3")
    done("view", MELT, *words, "-o", whole)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1e5))
    monkeypatch.delattr("phaseseg.io.walk.parsed")  # of whole frames
    said = done("view", MELT, *words, "-o", thinned)
    assert "Of 520 atoms, 100 are shown" in said
    assert thinned.read_text("utf-8") == whole.read_text("utf-8")


def test_frames_beyond_memory_that_cannot_be_thinned(tmp_path, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1e5))
    page, data = tmp_path / "view.html", tmp_path / "melt.data"
    refused(INPUT, "Write the predictions with phaseseg predict", "view", MELT, "-m", "gat-v1", "-o", page)
    sides = "\n".join(f"0 90 {axis}lo {axis}hi" for axis in "xyz")
    data.write_text(f"melt\n\n900 atoms\n1 atom types\n\n{sides}\n\nAtoms # atomic\n\n1 1 0 0 0\n")
    refused(INPUT, "900 atoms would take about", "view", data, "-o", page)
    assert not page.exists()


FAMILIES = {
    "segmentation": (MELT, "phase"), "liquid_glass": (GLASS, "glass_probability"),
    "environments": (MELT, "environment"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_reports_of_families_show_the_atoms(family, tmp_path):
    source, color = FAMILIES[family]
    model = default_checkpoint(family)
    done("predict", source, "-m", model, "--frames", "0:2", "--report", tmp_path, "--view")
    text = unescape((tmp_path / "report.html").read_text("utf-8"))
    scene = json.loads(re.search(r'id="scene">(.*?)</script>', text, re.DOTALL)[1])
    assert scene["color"] == color and len(scene["frames"]) == 2 and not scene["notes"]
    assert bool(scene["frames"][0]["mesh"]) == (family == "segmentation")


@pytest.mark.slow
def test_reports_of_labels(tmp_path):
    done("label", MELT, "--frames", "0:2", "--report", tmp_path, "--view")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("<iframe") == 1 and page.index("<iframe") < page.index("<footer>")
    refused(USAGE, "--view is a part of the report", "label", MELT, "--view")
    refused(USAGE, "--view is a part of the report", "predict", MELT, "--view")


@pytest.mark.slow
def test_reports_of_metrics_show_the_first_run_with_its_graphs(tmp_path):
    runs = [GLASS, DEMO / "glass_ka2d_s902.xyz.gz"]
    done("metrics", *runs, "--bootstrap", 0, "--report", tmp_path, "--view")
    text = unescape((tmp_path / "report.html").read_text("utf-8"))
    scene = json.loads(re.search(r'id="scene">(.*?)</script>', text, re.DOTALL)[1])
    assert (scene["title"], scene["color"], len(scene["frames"])) == (GLASS.name, "graph_id", 21)
    assert [bonds["title"] for bonds in scene["frames"][0]["bonds"]] == ["Glass bonds"]


def scene_of(folder):
    text = unescape((folder / "report.html").read_text("utf-8"))
    return json.loads(re.search(r'id="scene">(.*?)</script>', text, re.DOTALL)[1])


@pytest.mark.slow
def test_metrics_are_counted_once_for_the_report(tmp_path, monkeypatch):
    from phaseseg.families.liquid_glass import structural_metrics

    counted, real = [], structural_metrics.glass_metrics
    monkeypatch.setattr(
        structural_metrics, "glass_metrics", lambda frame, **how: counted.append(frame) or real(frame, **how)
    )
    runs = [GLASS, DEMO / "glass_ka2d_s902.xyz.gz"]
    done("metrics", *runs, "--bootstrap", 0, "--report", tmp_path, "--view")
    assert len(counted) == 42 and len(scene_of(tmp_path)["frames"]) == 21


def test_metrics_of_several_processes_show_the_first_run(tmp_path):
    done(
        "metrics", GLASS, "--bootstrap", 0, "--frames", "::10", "--workers", 2, "--report", tmp_path, "--view"
    )
    assert len(scene_of(tmp_path)["frames"]) == 3


EVALUATED = {
    "segmentation": (MELT, "gat-v1", "phase", "differs", "0:2"),
    "liquid_glass": (GLASS, "dmpnn-attention-v1", "glass_probability", "glass_probability", "0:21:10"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", EVALUATED)
def test_reports_of_evaluations_show_the_atoms(family, tmp_path):
    source, model, color, other, frames = EVALUATED[family]
    extra = ["--glass-below", 0.1, "--liquid-above", 1.0] if family == "liquid_glass" else []
    done("evaluate", source, "-m", model, "--frames", frames, *extra, "--report", tmp_path, "--view")
    scene = scene_of(tmp_path)
    assert scene["color"] == color and other in [one["name"] for one in scene["columns"]]
    assert len(scene["frames"]) == (2 if family == "segmentation" else 3)
    refused(USAGE, "--view is a part of the report", "evaluate", source, "-m", model, "--view")


@pytest.mark.slow
@pytest.mark.usefixtures("minimized_once")
def test_the_report_of_an_evaluation_of_mobility_shows_both(tmp_path):
    liquid = DEMO / "liquid_ka3d_t064.xyz.gz"
    done("evaluate", liquid, "-m", "mobility/net-ka3d-minimized-v1", "--report", tmp_path, "--view")
    scene = scene_of(tmp_path)
    assert scene["color"] == "propensity" and "simulated" in [one["name"] for one in scene["columns"]]


@pytest.mark.slow
def test_the_report_of_a_data_set_shows_what_it_lists(tmp_path):
    metals = DEMO / "metals.xyz.gz"
    done("mine", metals, "--frames", "0:80", "--outliers", "--cutoff", 4, "--report", tmp_path, "--view")
    scene = scene_of(tmp_path)
    names = [one["name"] for one in scene["columns"]]
    assert {"environment", "outlier_score"} <= set(names) and 1 < len(scene["frames"]) < 80
    assert any("80 configurations" in note for note in scene["notes"])
    refused(USAGE, "--view is a part of the report", "mine", metals, "--view")


def test_a_network_without_the_bonds_of_its_family(tmp_path):
    page = tmp_path / "view.html"
    done("view", GLASS, "-m", "liquid_glass/dmpnn-v1", "--frames", "0", "-o", page)
    assert about(page)["frames"][0]["bonds"] == []


@pytest.mark.slow
def test_a_million_atoms(tmp_path):
    rng = np.random.default_rng(0)
    n, edge = 1_000_000, 211.0
    frame = Frame(rng.random((n, 3)) * edge, [edge] * 3, True, rng.integers(0, 2, n), ("Fe", "O"))
    source, page = tmp_path / "large.dump", tmp_path / "view.html"
    write_frames(source, [frame.replace(fields={"height": frame.positions[:, 2]})])
    said = done("view", source, "--color", "height", "-o", page)
    assert "1,000,000 atoms, 1 frame" in said and page.stat().st_size < 20e6


def test_help_names_the_options_of_families():
    assert "--attention-threshold" in run("view", "--help").stdout
