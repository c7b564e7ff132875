"""What a wheel holds."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import phaseseg

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "phaseseg/py.typed",
        "ase_bridge/py.typed",
        "ovito_phaseseg/py.typed",
        "phaseseg/cli/__main__.py",
        "phaseseg/demo/glass_ka2d_s901.xyz.gz",
        "phaseseg/demo/glass_ka2d_s904.xyz.gz",
        "phaseseg/demo/liquid_ka3d_t064.xyz.gz",
        "phaseseg/demo/melt_large_3000K.dump.gz",
        "phaseseg/demo/melt_large_4000K.dump.gz",
        "phaseseg/demo/melt_small_3000K.dump.gz",
        "phaseseg/demo/melt_small_4000K.dump.gz",
        "phaseseg/demo/metals.xyz.gz",
        "phaseseg/demo/metals_truth.csv",
        "phaseseg/recipes/melt/melt.json",
        "phaseseg/viewer/page/page.html",
        "phaseseg/viewer/page/draw.js",
        "phaseseg/families/environments/checkpoints/contrast-ta-v1.safetensors",
        "phaseseg/families/environments/checkpoints/meagraph-ta-v1.safetensors",
        "phaseseg/families/environments/checkpoints/mixture-v1.safetensors",
        "phaseseg/families/segmentation/checkpoints/gat-v1.safetensors",
        "ovito_phaseseg/glass.py",
        "ovito_phaseseg/modifiers.py",
        "ase_bridge/convert.py",
    ],
)
def test_wheel_holds(wheel: zipfile.ZipFile, name: str) -> None:
    assert name in wheel.namelist()


def test_one_version() -> None:
    """The citation and the changelog have the version of the package."""
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {phaseseg.__version__}\n" in citation
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## (\d+\.\d+\.\d+) \((.+)\)$", changes, flags=re.MULTILINE)
    assert released[0][0] == phaseseg.__version__
    date = re.search(r"^date-released: (\S+)$", citation, flags=re.MULTILINE)
    assert date is not None and date[1] == released[0][1]


def test_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    """No tests, no caches of compiled code, no package named `models`; a few MB."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {
        "phaseseg",
        "ovito_phaseseg",
        "ase_bridge",
        f"ovito_phaseseg-{phaseseg.__version__}.dist-info",
    }
    assert not [name for name in wheel.namelist() if name.endswith((".pyc", ".nbi", ".nbc"))]
    assert not [name for name in wheel.namelist() if name.startswith("phaseseg/recipes/mobility/data/")]
    assert sum(entry.compress_size for entry in wheel.infolist()) < 10e6


def test_entry_points_load() -> None:
    """OVITO Pro finds the modifiers by these names, which the session files of users depend on."""
    pytest.importorskip("ovito")
    found = {entry.name: entry for entry in entry_points(group="OVITO.Modifier") if "phaseseg" in entry.value}
    homes = {name: entry.load().__module__ for name, entry in found.items()}
    assert homes == {
        "Weak phase labels": "ovito_phaseseg.modifiers",
        "Phase segmentation (GNN)": "ovito_phaseseg.modifiers",
        "Restore phase types": "ovito_phaseseg.modifiers",
        "Glass structural metrics": "ovito_phaseseg.glass",
        "Liquid or glass (D-MPNN)": "ovito_phaseseg.glass",
        "Mobility (GNN)": "ovito_phaseseg.mobility",
        "Atomic environments": "ovito_phaseseg.environments",
    }
    (reader,) = [one for one in entry_points(group="OVITO.FileReader") if "phaseseg" in one.value]
    assert reader.load().__module__ == "ovito_phaseseg.readers"
    (legend,) = [one for one in entry_points(group="OVITO.ViewportOverlay") if "phaseseg" in one.value]
    assert (legend.name, legend.load().__module__) == ("Phase legend", "ovito_phaseseg.legend")
    assert "phaseseg" in {entry.name for entry in entry_points(group="console_scripts")}


def test_public_names_are_there() -> None:
    assert all(getattr(phaseseg, name) is not None for name in phaseseg.__all__)
    assert set(phaseseg.__all__) <= set(dir(phaseseg))
