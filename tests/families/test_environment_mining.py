"""Mining: duplicates, subsets with their coverage, tables, sentences, the map and the report."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from dataclasses import replace
from importlib.resources import files
from math import nan

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from sklearn.metrics import roc_auc_score

from phaseseg.display import face
from phaseseg.families.environments.audit import Audit
from phaseseg.families.environments.commands import write_configurations
from phaseseg.families.environments.dataset import DataSet, read_data_set
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.map import chosen_configurations, write_map
from phaseseg.families.environments.mining import find_duplicates, find_subset, mine, own_spacing
from phaseseg.families.environments.mining_figures import labels_figure, map_figure, neighborhood, umap_points
from phaseseg.families.environments.mining_tables import (
    keys_sentence,
    mined_sentences,
    mined_tables,
    strange_atoms,
    suspicious,
    typical_atoms,
)
from phaseseg.families.environments.report_mine import write_report
from phaseseg.io import frame_from_atoms

COPPER = PowerSpectrum(("Cu",), n_max=3, l_max=3)


def rattled(k, width=0.1, n=1):
    atoms = bulk("Cu", cubic=True).repeat(n)
    atoms.rattle(width, seed=k)
    return atoms


def set_of(structures, **labels):
    return DataSet([frame_from_atoms(atoms) for atoms in structures], **labels)


@pytest.fixture(scope="module")
def small():
    """Twenty rattled crystals in two groups, with energies and forces."""
    rng = np.random.default_rng(0)
    structures = [rattled(k, 0.02 if k % 2 else 0.2) for k in range(20)]
    groups = np.array(["hot", "cold"] * 10)
    return set_of(structures, energies=rng.normal(size=20), forces=rng.normal(size=(80, 3)), groups=groups)


@pytest.fixture(scope="module")
def mined(small):
    return mine(small, descriptor=COPPER, options={"n_clusters": (2, 4)}, budget=0.2)


@pytest.fixture(scope="module")
def metals():
    """A part of the bundled set: the configurations of up to 4 atoms, and a few others."""
    data = read_data_set(str(files("phaseseg") / "demo" / "metals.xyz.gz"))
    return data.subset(np.flatnonzero((data.sizes <= 4) | (np.arange(len(data)) % 16 == 0)))


# Outliers ------------------------------------------------------------------------------------------


def test_a_group_of_strange_configurations_is_not_listed(small):
    """One group is five times as strange as the other; in each, one configuration exceeds its own limit."""
    scores = np.where(small.groups == "hot", 5.0, 1.0) + 0.01 * np.arange(20)
    scores[[2, 5]] = 9.0, 4.0
    mined = replace(mine(small, descriptor=COPPER, method="none"), scores=np.repeat(scores, small.sizes))
    assert np.flatnonzero(mined.highest_scores >= mined.outlier_limits).tolist() == [2, 5]
    assert set(small.configurations[strange_atoms(mined)]) == {2, 5}
    table = mined_tables(mined)["outliers"]
    assert list(table.columns["configuration"][:2]) == [small.names[2], small.names[5]]
    whole = replace(mined, data=DataSet(small.frames))
    assert len(strange_atoms(whole)) == 0 and np.ptp(whole.outlier_limits) == 0


# Duplicates ----------------------------------------------------------------------------------------


def test_duplicates_are_found_in_any_order_and_orientation():
    first = rattled(1)
    turned = first.copy()
    turned.positions[:] = first.positions[:, [1, 2, 0]]
    turned.set_cell(first.cell.array[:, [1, 2, 0]])
    shifted = first.copy()
    shifted.positions += 0.3
    data = set_of([rattled(2), first, turned[[3, 1, 0, 2]], shifted, first.repeat((2, 1, 1)), rattled(3)])
    found = find_duplicates(data, data.features(COPPER))
    assert found.groups == ((1, 2, 3, 4),) and found.n_repeated == 3
    assert found.n_distinct == 12
    assert np.isnan(found.energy_spread).all() and found.contradictions == []


def test_a_strained_cell_is_no_duplicate():
    strained = rattled(1)
    strained.set_cell(strained.cell * 1.0001, scale_atoms=True)
    data = set_of([rattled(1), strained])
    assert find_duplicates(data, data.features(COPPER)).groups == ()


def test_labels_of_duplicates_that_contradict_each_other():
    structures = [rattled(1), rattled(1).repeat((1, 1, 2)), rattled(2), rattled(2)]
    forces = [np.ones((4, 3)), np.ones((8, 3)), np.ones((4, 3)), 1.1 * np.ones((4, 3))]
    data = set_of(structures, energies=np.array([-4.0, -8.0, 1.0, 1.0]), forces=np.concatenate(forces))
    found = find_duplicates(data, data.features(COPPER))
    assert found.groups == ((0, 1), (2, 3))
    np.testing.assert_allclose(found.energy_spread, 0, atol=1e-12)
    np.testing.assert_allclose(found.force_spread, [0, 0.1 * np.sqrt(3)], atol=1e-12)
    assert found.contradictions == [1]
    wrong = DataSet(data.frames, np.array([-4.0, -8.1, 1.0, 1.0]), data.forces)
    assert find_duplicates(wrong, data.features(COPPER)).contradictions == [0, 1]


def test_the_bundled_copies_are_found():
    data = read_data_set(str(files("phaseseg") / "demo" / "metals.xyz.gz"))
    copies = np.array(["_again_" in frame.words["name"] for frame in data.frames])
    originals = {
        frame.words["name"].replace("_again", "") for frame in data.frames if "_again_" in frame.words["name"]
    }
    pick = copies | np.array([frame.words["name"] in originals for frame in data.frames])
    some = data.subset(pick)
    found = find_duplicates(some, some.features(PowerSpectrum(some.species)))
    assert len(found.groups) == found.n_repeated == 12 and found.contradictions == []
    for a, b in found.groups:
        names = [some.frames[k].words["name"].replace("_again", "") for k in (a, b)]
        assert names[0] == names[1]


# Subsets -------------------------------------------------------------------------------------------


def test_own_spacing_agrees_with_its_definition():
    rng = np.random.default_rng(1)
    points, of = rng.normal(size=(60, 3)), rng.integers(0, 20, 60)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    apart[of[:, None] == of[None]] = np.inf
    found = own_spacing(points, of, np.arange(60), k=60)
    assert found == pytest.approx(np.quantile(apart.min(axis=1), 0.99), rel=1e-12)
    assert own_spacing(np.zeros((4, 2)), np.arange(4), np.arange(4)) == 1.0


def test_a_subset_and_its_curve(small, mined):
    found = mined.pruned
    assert found.mask.sum() == 16 and len(found.configurations) == 4
    np.testing.assert_array_equal(np.repeat(np.isin(np.arange(20), found.configurations), 4), found.mask)
    at = found.budgets.tolist().index(0.2)
    points = found.ranking.points
    apart = np.linalg.norm(points[:, None] - points[None, found.mask], axis=2).min(axis=1) / found.spacing
    assert found.distances[at] == pytest.approx(apart.mean(), rel=1e-12)
    assert found.covered == (apart <= 1).mean()
    assert found.distances[-1] == 0 and (np.diff(found.distances) <= 1e-12).all()
    assert found.distances[at] < found.random[:, at].mean()


def test_a_subset_of_atoms(small):
    found = find_subset(small, small.features(COPPER), 0.1, by="atoms")
    assert found.mask.sum() == 8 and found.weights[~found.mask].max() == 0
    assert found.configurations.tolist() == np.unique(np.flatnonzero(found.mask) // 4).tolist()


def test_the_same_seed_gives_the_same_result(small, mined):
    again = mine(small, descriptor=COPPER, options={"n_clusters": (2, 4)}, budget=0.2)
    assert np.array_equal(again.labels, mined.labels)
    assert np.array_equal(again.pruned.random, mined.pruned.random)


# What is said --------------------------------------------------------------------------------------


def test_tables_and_sentences(small, mined):
    tables = mined_tables(mined)
    assert set(tables) == {"groups", "duplicates", "clusters", "coverage", "subset"}
    assert tables["groups"].columns["atoms"].tolist() == [40, 40]
    assert tables["groups"].columns["in the subset"].sum() == 16
    clusters = tables["clusters"]
    assert clusters.columns["atoms"].sum() == 80
    typical = typical_atoms(mined)
    for row in clusters.rows():
        atom = typical[row["cluster"]]
        assert mined.labels[atom] == row["cluster"]
        assert (row["typical"], row["atom"]) == (small.names[atom // 4], atom % 4 + 1)
    said = mined_sentences(mined)
    assert said[0] == "20 configurations with 80 atoms of Cu in 2 groups."
    assert said[1] == "80 of the 80 environments are distinct."
    assert "The subset has 4 of 20 configurations with 16 atoms (20.0 %)." in said[3]
    assert tables["subset"].columns["configuration"].tolist() == [
        small.names[k] for k in mined.pruned.ranking.chosen(0.2)
    ]


def test_outliers_are_listed(small):
    structures = [rattled(k, 0.02, n=2) for k in range(20)]
    structures[7].positions[5] += [0.7, 0.2, 0.1]
    found = mine(set_of(structures), descriptor=COPPER, method="none", outliers=True)
    assert found.labels is None and found.scores.argmax() == 7 * 32 + 5
    row = next(mined_tables(found)["outliers"].rows())
    assert (row["configuration"], row["atom"], row["species"]) == ("configuration 7", 6, "Cu")
    assert mined_sentences(found)[-1].endswith("that of atom 6 in configuration 7.")


@pytest.fixture(scope="module")
def compared(small):
    """The cold crystals against a set that has melted ones, too."""
    cold = small.subset(small.groups == "cold")
    hot = set_of(
        [rattled(40, 0.02), *(rattled(k, 0.5) for k in range(41, 45))], groups=np.array(["a", *"bbbb"])
    )
    return mine(cold, descriptor=COPPER, method="none", against=hot, n_suggested=2)


def test_a_displaced_atom_among_many_species():
    """Compositions that never repeat do not hide it, and copper alone keeps the components of one species."""
    rng = np.random.default_rng(0)
    structures = [rattled(k, 0.05, 2) for k in range(40)]
    for atoms in structures:
        atoms.symbols[:] = rng.choice(["Al", "Co", "Cr", "Cu", "Fe", "Ni"], len(atoms))
    structures[11].positions[5] += [0.5, 0.4, 0.0]
    found = mine(set_of(structures), method="none", outliers=True)
    # The atom itself or a neighbor of it.
    assert found.scores.argmax() // 32 == 11
    assert [one.code for one in found.messages] == ["outliers-all-species"]
    assert not mine(set_of([rattled(k) for k in range(9)]), method="none", outliers=True).messages


@pytest.mark.slow
@pytest.mark.parametrize("n_species, least", [(2, 0.7), (4, 0.65), (12, 0.8)])
@pytest.mark.parametrize("mixed", [False, True])
def test_displaced_atoms_in_alloys(n_species, least, mixed):
    """The table of decision 0021. Of 100 cells, 20 have a moved atom; mixed ones have one to five species."""
    radii = np.array([1.43, 1.25, 1.28, 1.28, 1.26, 1.27, 1.39, 1.46, 1.24, 1.46, 1.47, 1.41])[:n_species]
    names = ["Al", "Co", "Cr", "Cu", "Fe", "Mn", "Mo", "Nb", "Ni", "Ta", "Ti", "W"][:n_species]
    rng, structures = np.random.default_rng(0), []
    moved = np.isin(np.arange(100), rng.choice(100, 20, replace=False))
    for displaced in moved:
        several = rng.integers(1, min(n_species, 5) + 1) if mixed else n_species
        species = rng.permutation(rng.permutation(n_species)[:several][np.arange(54) % several])
        edge = 4 * radii[species].mean() / np.sqrt(3) * rng.uniform(0.97, 1.04)
        atoms = bulk("Fe", "bcc", edge, cubic=True).repeat(3)
        atoms.symbols[:] = np.array(names)[species]
        atoms.positions += rng.normal(0, rng.uniform(0.02, 0.15), (54, 3))
        if displaced:
            step = rng.normal(size=3)
            atoms.positions[rng.integers(54)] += 0.6 * step / np.linalg.norm(step)
        structures.append(atoms)
    scores = mine(set_of(structures), method="none", outliers=True).scores
    auc = roc_auc_score(moved, scores.reshape(100, 54).max(axis=1))
    print(f"{n_species} species, mixed {mixed}: {auc:.3f}")
    assert auc >= least


def test_what_another_set_has(compared):
    tables = mined_tables(compared)
    assert [row["group"] for row in tables["new_groups"].rows()] == ["a", "b"]
    old, new = tables["new_groups"].columns["new environments (%)"]
    assert old < 50 and new == 100
    assert set(tables["new"].columns["configuration"][:4].tolist()) == {
        f"configuration {k}" for k in range(1, 5)
    }
    suggested = tables["suggestions"]
    assert len(suggested) == 2 and "configuration 0" not in suggested.columns["configuration"]
    assert suggested.columns["all so far (% of the gap)"][-1] == pytest.approx(
        100 * compared.suggestion.closed
    )
    said = mined_sentences(compared)
    assert said[-2].startswith("The other set has 5 configurations; ")
    assert said[-1].startswith("2 suggested configurations close ")


def test_suggestions_are_written(tmp_path, compared):
    write_configurations(tmp_path / "next.xyz", compared)
    assert len(read_data_set(tmp_path / "next.xyz")) == 2


def test_more_suggestions_than_there_are(small):
    with pytest.raises(ValueError, match="it has 20"):
        mine(small, descriptor=COPPER, against=small, n_suggested=21)


def test_sets_without_groups_or_labels():
    found = mine(
        set_of([rattled(k) for k in range(6)]), descriptor=COPPER, method="kmeans", options={"n_clusters": 2}
    )
    assert mined_tables(found)["groups"].columns["group"].tolist() == ["all"]
    assert keys_sentence(found.data) == "Read positions only; found no energy, forces or group."


def test_progress_ends_with_one_and_may_stop(small):
    said = []
    mine(small, descriptor=COPPER, method="none", progress=lambda done, line: said.append(done))
    assert said[-1] == 1.0 and sorted(said) == said

    def stop(done, line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mine(small, descriptor=COPPER, progress=stop)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"budget": 0.0}, "the budget is a share"),
        ({"budget": 1.5}, "the budget is a share"),
        ({"budget": nan}, "the budget is a share"),
        ({"n_suggested": 3}, "3 suggestions need .* there is none"),
        ({"method": "guess"}, "no method 'guess'"),
        ({"descriptor": PowerSpectrum(("Fe",))}, "the frame has Cu"),
    ],
)
def test_what_cannot_be_mined(small, options, match):
    with pytest.raises(ValueError, match=match):
        mine(small, **options)


def test_sets_that_cannot_be_mined(small):
    with pytest.raises(ValueError, match="has one atom"):
        mine(set_of([bulk("Cu")]))
    with pytest.raises(ValueError, match="an audit needs energies"):
        mine(DataSet(small.frames), audit=True)
    frames = [frame.replace(info={"U0": 1.0, "step": 3.0}) for frame in small.frames]
    for where, name in (("Python", "energy= of read_data_set"), ("command line", "--energy")):
        words = rf"an audit needs energies.* has U0, step; name the energy with {name}\.$"
        with face(where), pytest.raises(ValueError, match=words):
            mine(DataSet(frames), audit=True)


@pytest.mark.parametrize("largest", [3.0, 1e3, 1e10])
def test_figures_of_gross_errors_have_a_few_ticks(small, largest):
    n = len(small)
    scores = np.concatenate([np.linspace(0.5, 1.5, n - 1), [largest]])
    forces = np.repeat(scores, small.sizes)
    found = Audit(scores, forces, scores, scores, forces, np.ones(n), small.names, ())
    mined = mine(small, descriptor=COPPER, method="none")
    mined = replace(mined, audit=found)
    atoms = np.arange(small.n_atoms)
    for figure in (labels_figure(mined), map_figure(mined, mined.points, atoms, ("a", "b"))):
        figure.canvas.draw()
        for place in figure.axes:
            for axis in (place.xaxis, place.yaxis):
                (low, high), shown = sorted(axis.get_view_interval()), axis.get_majorticklocs()
                if axis.get_scale() == "log":
                    assert 2 <= ((shown >= low) & (shown <= high)).sum() <= 12


def test_few_distinct_environments_have_few_clusters():
    alone = set_of([Atoms("Cu", cell=[20.0 + k] * 3, pbc=True) for k in range(5)])
    for method in ("mixture", "kmeans", "communities", "tree"):
        found = mine(alone, method=method, budget=0.2)
        assert found.clusters.n_clusters == 1 and found.labels.tolist() == [0] * 5
    assert "with 1 atom (20.0 %)" in mined_sentences(found)[-1]


def test_atoms_on_top_of_each_other_are_reported(small):
    structures = [rattled(k) for k in range(6)]
    structures[3].positions[1] = structures[3].positions[0] + [0.0, 0.0, 0.2]
    structures[5] = bulk("Cu", a=0.65)  # an atom and its own image
    messages = " ".join(mine(set_of(structures), descriptor=COPPER).messages)
    assert "2 configurations have atoms closer than 0.5 Å to each other" in messages
    assert "configuration 3, where atoms 1 and 2 are 0.20 Å apart" in messages
    assert not mine(small, descriptor=COPPER).messages


def test_atoms_without_neighbors_are_reported(small):
    box = {"cell": [50.0] * 3}
    pair = Atoms("Cu2", [[0, 0, 0], [0, 0, 30]], **box)
    structures = [rattled(0), Atoms("Cu", cell=[9.0] * 3, pbc=True), rattled(1), pair]
    (message,) = (one for one in mine(set_of(structures), method="none").messages if "neighbor" in one)
    assert message.code == "without-neighbors" and message.startswith("3 atoms in 2 configurations")
    assert "configuration 1, atom 1" in message and "within 5 Å" in message
    # An atom of another species is a neighbor, too.
    oxide = [
        Atoms("CuO", [[0, 0, 0], [0, 0, 1.9]], **box),
        Atoms("OCu", [[0, 0, 0], [0, 0, 4.9]], **box),
        rattled(0),
    ]
    assert not mine(set_of(oxide), method="none").messages


# Files ---------------------------------------------------------------------------------------------


def test_written_subsets(tmp_path, small, mined):
    write_configurations(tmp_path / "subset.xyz", mined)
    back = read_data_set(tmp_path / "subset.xyz")
    chosen = mined.pruned.configurations
    assert np.array_equal(back.energies, small.energies[chosen])
    np.testing.assert_allclose(
        [frame.info["weight"] for frame in back.frames], mined.pruned.weights[4 * chosen], rtol=1e-9
    )
    by_atoms = mine(small, descriptor=COPPER, method="none", budget=0.1, by="atoms")
    write_configurations(tmp_path / "atoms.xyz", by_atoms)
    frames = read_data_set(tmp_path / "atoms.xyz", columns=True).frames
    assert sum(frame.fields["selected"].sum() for frame in frames) == 8


def test_a_set_without_a_subset_is_written_with_what_was_found(tmp_path, small):
    found = mine(small, descriptor=COPPER, method="kmeans", options={"n_clusters": 3}, outliers=True)
    write_configurations(tmp_path / "all.xyz", found)
    frames = read_data_set(tmp_path / "all.xyz", columns=True).frames
    labels = np.concatenate([frame.fields["environment"] for frame in frames])
    assert np.array_equal(labels, found.labels)
    scores = np.concatenate([frame.fields["outlier_score"] for frame in frames])
    np.testing.assert_allclose(scores, found.scores, rtol=1e-9)


def test_the_map_is_a_file_of_chemiscope(tmp_path, metals):
    pytest.importorskip("chemiscope")
    found = mine(metals, method="kmeans", options={"n_clusters": 5}, budget=0.3, outliers=True)
    assert write_map(tmp_path / "map.json.gz", found) == len(metals)
    content = json.loads(gzip.decompress((tmp_path / "map.json.gz").read_bytes()))
    assert {"meta", "structures", "properties", "environments", "settings"} <= set(content)
    assert [one["size"] for one in content["structures"]] == metals.sizes.tolist()
    assert len(content["environments"]) == metals.n_atoms
    sizes = {"atom": metals.n_atoms, "structure": len(metals)}
    for name, one in content["properties"].items():
        assert len(one["values"]) == sizes[one["target"]], name
    assert content["properties"]["cluster"]["values"] == found.labels.tolist()
    assert content["properties"]["name"]["values"][0] == metals.names[0]
    open_box = [not frame.pbc.any() for frame in metals.frames]
    assert any(open_box) and ["cell" not in one for one in content["structures"]] == open_box
    axes = content["settings"]["map"]
    assert {axes[axis]["property"] for axis in "xy"} <= set(content["properties"])


def test_the_map_of_a_large_set_is_a_choice(mined):
    chosen = chosen_configurations(mined, 40, seed=0)
    assert len(chosen) == 10 and set(mined.pruned.configurations) <= set(chosen)
    assert len(chosen_configurations(mined, 1, seed=0)) == 1


def test_a_map_needs_chemiscope(monkeypatch, mined, tmp_path):
    monkeypatch.setitem(sys.modules, "chemiscope", None)
    with pytest.raises(ImportError, match="pip install"):
        write_map(tmp_path / "map.json", mined)
    with pytest.raises(ValueError, match=r"written as .json"):
        write_map(tmp_path / "map.html", mined)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_report(tmp_path, mined):
    page = write_report(tmp_path / "report", mined, "copper <1>")
    text = page.read_text(encoding="utf-8")
    assert "What is in copper &lt;1&gt;" in text
    for sentence in mined_sentences(mined):
        assert sentence in text
    assert text.count("<img") == 2 + mined.clusters.n_clusters
    assert {"map.png", "coverage.png", "clusters.csv", "metrics.json"} <= {
        p.name for p in page.parent.iterdir()
    }
    assert json.loads((page.parent / "metrics.json").read_text())["settings"]["budget"] == 0.2


@pytest.mark.parametrize("atoms", [bulk("Cu"), rattled(3), bulk("Zn")])
def test_a_neighborhood_has_all_atoms_within_the_radius(atoms):
    vectors, rows = neighborhood(frame_from_atoms(atoms), len(atoms) - 1, 4.0)
    i, j, d = neighbor_list("ijd", atoms, 4.0)
    own = i == len(atoms) - 1
    assert rows[0] == len(atoms) - 1 and not vectors[0].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[1:], axis=1), np.sort(d[own]), atol=1e-12)
    assert sorted(rows[1:].tolist()) == sorted(j[own].tolist())


def test_umap_where_it_is_installed(monkeypatch, mined):
    class Umap:
        def __init__(self, random_state, n_jobs):
            self.seed = random_state  # UMAP warns unless there is one job
            assert n_jobs == 1

        def fit_transform(self, points):
            assert points.shape[1] <= 12 and self.seed == 0
            return points[:, :2]

    monkeypatch.setitem(sys.modules, "umap", None)
    assert umap_points(mined.rows) is None
    monkeypatch.setitem(sys.modules, "umap", type(sys)("umap"))
    sys.modules["umap"].UMAP = Umap
    assert umap_points(mined.rows).shape == (80, 2)
    assert umap_points(mined.rows[:4]) is None


@pytest.fixture(scope="module")
def audited():
    """Copper of the bundled set, with its planted faults, audited."""
    data = read_data_set(str(files("phaseseg") / "demo" / "metals.xyz.gz"))
    copper = data.subset(np.isin(data.groups, ["Cu_bulk", "Cu_vacancy", "Cu_strained"]))
    return mine(copper, method="none", audit=True)


def faults_of(data):
    """Names of the spoiled configurations of a part of the bundled set, by the kind of fault."""
    found = {}
    with (files("phaseseg") / "demo" / "metals_truth.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["fault"], set()).add(row["name"])
    names = [frame.words["name"] for frame in data.frames]
    return {fault: {k for k, name in enumerate(names) if name in own} for fault, own in found.items()}


@pytest.mark.slow
def test_wrong_labels_are_listed(audited):
    faults = faults_of(audited.data)
    listed = {what: {k for k, one, _ in suspicious(audited) if one == what} for what in ("energy", "forces")}
    assert faults["energy"] and faults["sign"]
    assert faults["energy"] <= listed["energy"] and faults["sign"] <= listed["forces"]
    assert len(listed["energy"] | listed["forces"]) < 0.3 * len(audited.data)
    table = mined_tables(audited)["labels"]
    assert list(table.columns) == [
        "configuration", "group", "label", "score", "energy off by (eV/atom)", "largest force off by (eV/Å)",
        "times the fit",
    ]  # fmt: skip
    assert (np.diff(table.columns["score"]) <= 0).all() and table.columns["score"].min() > 6
    for row in table.rows():
        k = audited.data.names.index(row["configuration"])
        if k in faults["sign"]:
            assert row["times the fit"] == pytest.approx(-1, abs=0.1)
        if k in faults["energy"] and row["label"] == "energy":
            assert row["energy off by (eV/atom)"] == pytest.approx(0.1, abs=0.02)
    assert "suspicious labels; the worst is the " in mined_sentences(audited)[-1]
    assert not any("above the fit" in message for message in audited.messages)


@pytest.mark.slow
def test_an_audit_is_drawn_and_mapped(tmp_path, audited):
    pytest.importorskip("chemiscope")
    page = write_report(tmp_path / "report", audited, "copper")
    assert (page.parent / "labels.png").is_file() and "Suspicious labels" in page.read_text("utf-8")
    write_map(tmp_path / "map.json", audited)
    properties = json.loads((tmp_path / "map.json").read_text())["properties"]
    assert len(properties["force residual"]["values"]) == audited.data.n_atoms
    assert properties["energy residual"]["values"] == audited.audit.energy_residuals.tolist()
