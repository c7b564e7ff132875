"""`phaseseg doctor`, `phaseseg cite`, completion, and the versions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from faces.command_line import ENVIRONMENT, run
from phaseseg import cite
from phaseseg.checkpoint import bundled_checkpoints, load_checkpoint
from phaseseg.citation import papers_of
from phaseseg.cli import doctor
from phaseseg.families import FAMILIES

ROOT = Path(__file__).parents[2]


def test_doctor_lists_what_is_installed_and_tests_it():
    result = run("doctor", "--json")
    assert result.exit_code == 0, result.stdout
    found = json.loads(result.stdout)
    versions = {one["package"]: one["version"] for one in found["packages"]}
    assert re.match(r"\d+\.\d+", versions["numpy"])
    assert found["damaged checkpoints"] == [] and found["checkpoints"] == len(bundled_checkpoints())
    assert found["self-test"]["error"] == "" and found["self-test"]["seconds"] > 0
    assert found["machine"]["cores"] >= 1
    assert {one["what"] for one in found["folders"]} >= {
        "compiled code",
        "arrays of trainings, places of frames",
    }
    # Every extra says what it is for.
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(extras) - {"all"} == set(doctor.PURPOSES) - {""}


def test_doctor_names_what_is_missing_and_how_to_install_it(monkeypatch):
    known = doctor.version

    def without_dask(name):
        if name == "dask":
            raise PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(doctor, "version", without_dask)
    result = run("doctor")
    assert result.exit_code == 0
    (line,) = [line for line in result.stdout.splitlines() if "frames on a cluster" in line]
    assert "dask" in line and 'pip install "ovito-phaseseg[dask]"' in line


def test_doctor_fails_where_something_does_not_work(monkeypatch, tmp_path):
    from phaseseg import checkpoint

    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no checkpoint")
    monkeypatch.setattr(checkpoint, "bundled_checkpoints", lambda: {str(broken): broken})
    result = run("doctor")
    assert result.exit_code == 1
    assert "broken.safetensors" in result.stdout and "the lines above say what" in result.stderr
    monkeypatch.undo()
    import phaseseg

    monkeypatch.setattr(phaseseg, "label_phases", lambda *args, **options: 1 / 0, raising=False)
    result = run("doctor", "--json")
    assert result.exit_code == 1
    assert "ZeroDivisionError" in json.loads(result.stdout)["self-test"]["error"]


@pytest.mark.parametrize("name", [*bundled_checkpoints()])
def test_the_papers_behind_a_checkpoint_are_known(name):
    checkpoint = load_checkpoint(name)
    papers = papers_of(checkpoint)
    named = json.dumps([checkpoint.card.get("citation"), checkpoint.card.get("data")])
    # Every identifier in the card belongs to a paper that is printed.
    identifiers = re.findall(r"(?<=DOI )10\.\d{4,}/[^\s\",;)]+|\d{4}\.\d{5}", named)
    printed = cite(name, bibtex=True)
    assert all(one in printed or one.removeprefix("10.48550/arXiv.") in printed for one in identifiers)
    assert bool(papers) or not identifiers
    assert checkpoint.hash[:12] in cite(name)
    assert printed.count("@") == 1 + len(papers) and printed.isascii()


def test_papers_are_complete_and_in_the_citation_file():
    cited = (ROOT / "CITATION.cff").read_text("utf-8")
    keys = [paper.key for family in FAMILIES.values() for paper in family.papers]
    assert len(keys) == len(set(keys)) >= 8
    for family in FAMILIES.values():
        for paper in family.papers:
            assert paper.doi or paper.arxiv
            assert (paper.doi or paper.arxiv) in cited, paper.key


def test_cite_on_the_command_line(tmp_path):
    assert run("cite").stdout.startswith("The ovito-phaseseg developers, ovito-phaseseg, version ")
    text = run("cite", "bapst-ka3d-v1", "--bibtex").stdout
    assert r"Grabska-Barwi{\'{n}}ska, A." in text and "pages = {448--454}" in text
    assert "van den Oord, A." in run("cite", "contrast-ta-v1", "--bibtex").stdout
    assert run("cite", "no-such-v1").exit_code != 0


@pytest.mark.slow
def test_words_and_flags_are_completed():
    for words, number, wanted in (("phaseseg pre", 1, "predict"), ("phaseseg cite --bib", 2, "--bibtex")):
        told = {"_PHASESEG_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)}
        done = subprocess.run(
            [sys.executable, "-c", "import sys; sys.argv = ['phaseseg']; import phaseseg.cli as c; c.main()"],
            env={**ENVIRONMENT, **told}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout.split() == [wanted], done.stderr


def test_the_version_names_what_matters():
    lines = dict(line.split() for line in run("--version").stdout.splitlines())
    assert {"phaseseg", "python", "numpy", "numba"} <= set(lines)
