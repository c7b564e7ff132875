"""`phaseseg mine`: what it says, what it writes, and one sentence for bad input."""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from faces import command_line
from faces.command_line import done, flat, refused
from phaseseg import predict
from phaseseg.checkpoint import Checkpoint, save_checkpoint
from phaseseg.families.environments.clusters import _METHODS as CLUSTER_METHODS
from phaseseg.families.environments.commands import METHODS, SELECTIONS
from phaseseg.families.environments.coverage import _METHODS as SUBSET_METHODS
from phaseseg.families.environments.dataset import DataSet, read_data_set, write_data_set
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.learn import described
from phaseseg.families.environments.meagraph import Meagraph
from phaseseg.terminal.errors import FAILURE, INPUT, INTERRUPTED, USAGE

run = partial(command_line.run, "mine")


@pytest.fixture(scope="module")
def metals() -> DataSet:
    return read_data_set(str(files("phaseseg") / "demo" / "metals.xyz.gz"))


@pytest.fixture(scope="module")
def copper(metals: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small configurations of copper, with two copies and without liquids."""
    path = tmp_path_factory.mktemp("set") / "copper.xyz"
    groups = metals.groups
    kept = np.isin(groups, ["Cu_lattice", "Cu_strained"]) | (np.isin(groups, ["Cu_vacancy"]))
    write_data_set(path, metals, kept)
    return path


@pytest.fixture(scope="module")
def liquids(metals: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("other") / "liquids.xyz"
    write_data_set(path, metals, metals.groups == "Cu_liquid")
    return path


def test_the_choices_are_those_of_the_library() -> None:
    assert {*METHODS} == {*CLUSTER_METHODS, "none"} and {*SELECTIONS} == {*SUBSET_METHODS}


@pytest.mark.slow
def test_what_it_says(copper: Path) -> None:
    result = run(copper, "--cluster", "kmeans", "--n-clusters", 4, "--prune", "0.1", "--outliers")
    assert result.exit_code == 0, result.stderr
    said = flat(result.stderr)
    for sentence in (
        "Read energy from energy, forces from forces, group from group.",
        "4 clusters of environments by kmeans",
        "The subset has ",
        "configurations mined in ",
    ):
        assert sentence in said
    assert "Clusters of environments" in result.stdout and "Cu_strained" in result.stdout
    assert "Structural outliers" in result.stdout


def test_a_subset_is_written_as_it_was(copper: Path, tmp_path: Path) -> None:
    said = done("mine", copper, "--cluster", "none", "--prune", "0.1", "-o", tmp_path / "subset.xyz")
    assert f"Written: {tmp_path / 'subset.xyz'} (the subset: " in said
    lines = {line for line in copper.read_text().splitlines() if "Lattice" not in line}
    written = (tmp_path / "subset.xyz").read_text().splitlines()
    assert all(line in lines for line in written if "Lattice" not in line)
    data = read_data_set(tmp_path / "subset.xyz")
    assert 0.02 < data.n_atoms / read_data_set(copper).n_atoms <= 0.1


def test_json_and_tables(copper: Path, tmp_path: Path) -> None:
    result = run(
        copper,
        "--cluster",
        "kmeans",
        "--n-clusters",
        3,
        "--prune",
        "0.2",
        "--json",
        "-o",
        tmp_path / "t.json",
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert found == json.loads((tmp_path / "t.json").read_text())
    assert found["configurations"] == len(read_data_set(copper)) and found["settings"]["clusters"] == "kmeans"
    assert {"clusters", "groups", "coverage", "subset", "duplicates"} == set(found["tables"])
    assert any("environments are distinct" in sentence for sentence in found["found"])
    assert run(copper, "--cluster", "none", "-q", "-o", tmp_path / "t.csv").exit_code == 0
    assert (tmp_path / "t.csv").read_text().startswith("group,")


@pytest.mark.slow
def test_another_set_and_suggestions(copper: Path, liquids: Path, tmp_path: Path) -> None:
    result = run(
        copper, "--against", liquids, "--suggest", 2, "--cluster", "none", "-o", tmp_path / "next.xyz",
        "--report", tmp_path / "report",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "2 suggested configurations close" in flat(result.stderr) and "Cu_liquid" in result.stdout
    assert set(read_data_set(tmp_path / "next.xyz").groups) == {"Cu_liquid"}
    assert (tmp_path / "report" / "new.png").is_file()


def test_a_set_that_adds_nothing_gives_no_file(copper: Path, tmp_path: Path) -> None:
    output = tmp_path / "next.xyz"
    said = done("mine", copper, "--against", copper, "--suggest", 2, "--cluster", "none", "-o", output)
    assert "No configuration of the other set closes any of the gap." in said
    assert "next.xyz was not written, because there is nothing to suggest" in said
    assert list(tmp_path.iterdir()) == []


def test_a_pool_needs_no_labels(copper: Path, liquids: Path, tmp_path: Path) -> None:
    data = read_data_set(liquids, energy="", forces="")
    write_data_set(tmp_path / "pool.xyz", DataSet([frame.replace(info={}) for frame in data.frames]))
    shared = ("--energy", "energy", "--suggest", 1, "--cluster", "none")
    assert "1 suggested configuration closes" in done(
        "mine", copper, "--against", tmp_path / "pool.xyz", *shared
    )


@pytest.mark.slow
def test_keys_and_descriptors_can_be_named(copper: Path, tmp_path: Path) -> None:
    data = read_data_set(copper)
    rows = np.random.default_rng(0).normal(size=(data.n_atoms, 4))
    np.save(tmp_path / "rows.npy", rows)
    shared = (
        "--cluster",
        "kmeans",
        "--n-clusters",
        2,
        "--energy",
        "none",
        "--forces",
        "none",
        "--group",
        "name",
    )
    said = done("mine", copper, "--descriptor", f"file:{tmp_path / 'rows.npy'}", *shared)
    assert "Read group from name; found no energy or forces." in said
    columns = {f"d[{k + 1}]": rows[:, k] for k in range(4)}
    write_data_set(tmp_path / "with.xyz", data, columns=columns)
    found = []
    for arguments in (
        (copper, "--descriptor", f"file:{tmp_path / 'rows.npy'}"),
        (tmp_path / "with.xyz", "--descriptor", "array:d"),
    ):
        clusters = json.loads(run(*arguments, *shared, "--json").stdout)["tables"]["clusters"]
        found.append([row["atoms"] for row in clusters])
    assert found[0] == found[1] and sum(found[0]) == data.n_atoms


@pytest.mark.slow
def test_clusters_of_an_own_network(copper: Path, tmp_path: Path) -> None:
    """Its descriptor is that of the network, unless a cutoff is given."""
    descriptor = PowerSpectrum(("Cu",), cutoff=4.0)
    network = Meagraph.untrained(descriptor.n_features, widths=(8, 4), low=0.8)
    data = read_data_set(copper)
    settings, weights = network.measured(data.features(descriptor), 0.3).to_parts()
    config = {**settings, "descriptor": described(descriptor)}
    path = tmp_path / "own.safetensors"
    save_checkpoint(Checkpoint("environments", "environments/own-v1", config, weights, units="metal"), path)
    arguments = (copper, "--cluster", "meagraph", "--network", path)
    result = run(*arguments, "--json", "--model", tmp_path / "fit.safetensors")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)["settings"]
    assert found["network"] == "environments/own-v1" and "cutoff 4 Å" in found["descriptor"]
    assert "environment" in predict(data.frames[0], tmp_path / "fit.safetensors")
    refused(INPUT, "Train a network on this set", "mine", *arguments, "--cutoff", 5)


@pytest.mark.parametrize(
    ("code", "words", "arguments"),
    [
        (USAGE, "the budget is a share", ("--prune", "0")),
        (USAGE, "the budget is a share", ("--prune", "1.2")),
        (USAGE, "--cluster must be one of", ("--cluster", "magic")),
        (USAGE, "--selection must be one of", ("--selection", "magic")),
        (USAGE, "--by must be one of", ("--by", "groups")),
        (USAGE, "name it with --against", ("--suggest", "3")),
        (USAGE, "--cluster threshold needs --distance", ("--cluster", "threshold")),
        (USAGE, "--n-clusters must be at least 1", ("--n-clusters", "0")),
        (USAGE, "written as .xyz or .extxyz", ("-o", "subset.dump")),
        (USAGE, "the map is written as .json", ("--map", "map.html")),
        (USAGE, "start:stop:step", ("--frames", "a:b")),
        (INPUT, "no energy nrg; it has", ("--energy", "nrg")),
        (INPUT, "no array 'soap'", ("--descriptor", "array:soap")),
        (INPUT, "--descriptor must be", ("--descriptor", "soap")),
        (INPUT, "an audit needs energies", ("--audit", "--energy", "none")),
        (INPUT, "cutoff must be", ("--cutoff", "-1")),
        (INPUT, "and up to 20 Å, found 100", ("--cutoff", "100")),
        (INPUT, "meagraph-ta-v1 was trained on the power spectrum of Ta", ("--cluster", "meagraph")),
        (USAGE, "--network is for --cluster meagraph", ("--network", "network.safetensors")),
        (INPUT, "no such file", ("--cluster", "meagraph", "--network", "network.safetensors")),
        (INPUT, "no checkpoint of the network MEAGraph", ("--cluster", "meagraph", "--network", "gat-v1")),
        (USAGE, "--seed must be at least 0, found -1", ("--seed", "-1")),
        (INPUT, "no configuration was read", ("--frames", "999:")),
    ],
)
def test_one_sentence_for_bad_input(copper: Path, code: int, words: str, arguments: tuple[str, ...]) -> None:
    refused(code, words, "mine", copper, *arguments)


@pytest.mark.slow
def test_one_sentence_for_bad_files(copper: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.xyz").write_text("")
    refused(INPUT, "the file is empty", "mine", tmp_path / "empty.xyz")
    refused(INPUT, "there is no such file", "mine", tmp_path / "missing.xyz")
    one = tmp_path / "one.xyz"
    one.write_text('1\nLattice="3 0 0 0 3 0 0 0 3"\nCu 0 0 0\n')
    refused(INPUT, "one.xyz frame 0: the data set has one atom", "mine", one)
    refused(INPUT, "frame 0: the configuration has no energy; ", "mine", copper, one)
    refused(USAGE, "is the input", "mine", copper, "-o", copper)
    refused(INPUT, "5 suggestions need", "mine", copper, "--against", one, "--suggest", 5)


def test_an_interruption_leaves_nothing(
    copper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phaseseg.families.environments import dataset

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "_texts", stop)
    result = run(copper, "--cluster", "none", "--prune", "0.1", "-o", tmp_path / "out.xyz")
    assert result.exit_code == INTERRUPTED and flat(result.stderr).endswith("out.xyz was not written.")
    assert list(tmp_path.iterdir()) == []


def test_a_map_without_the_package_fails_at_once(
    copper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "chemiscope", None)
    refused(FAILURE, "pip install", "mine", copper, "--map", tmp_path / "map.json")
