"""A graph convolutional network that predicts one number for a molecule, in PyTorch Geometric.

The network is the one that E. E. Blavo and D. A. Torres (Graph Neural Networks for glassy dynamics modeling,
report, 2023) trained on ZINC. The convolution is that of Kipf and Welling (DOI 10.48550/arXiv.1609.02907).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GCNConv, global_add_pool, global_mean_pool

from phaseseg.recipes.molecules.data import Molecule, Molecules

CONVOLUTIONS = (128, 128, 64, 64, 64)
READOUT = (64, 64, 32, 16)
POOLS = {"mean": global_mean_pool, "sum": global_add_pool}


class MoleculeGCN(nn.Module):
    """Convolutions over the bonds, a pooling over the atoms, and a readout network.

    n_types : how many types of atoms there are
    pool : "mean" or "sum" over the atoms of a molecule
    messages : False removes the bonds, so that every atom is seen alone
    """

    def __init__(self, n_types: int, pool: str = "mean", messages: bool = True) -> None:
        super().__init__()
        self.pool, self.messages = POOLS[pool], messages
        self.convolutions = nn.ModuleList(GCNConv(a, b) for a, b in pairwise((n_types, *CONVOLUTIONS)))
        layers: list[nn.Module] = []
        for a, b in pairwise((CONVOLUTIONS[-1], *READOUT)):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.readout = nn.Sequential(*layers, nn.Linear(READOUT[-1], 1))

    def forward(self, data: Data) -> Tensor:
        """Return (n_molecules,) standardized targets."""
        x = data.x
        edges = data.edge_index if self.messages else data.edge_index[:, :0]
        for convolution in self.convolutions:
            x = torch.relu(convolution(x, edges))
        result: Tensor = self.readout(self.pool(x, data.batch)).squeeze(-1)
        return result


def graph(molecule: Molecule, n_types: int, target: float) -> Data:
    """Return a molecule as PyTorch Geometric reads it: one-hot types, and every bond in both directions."""
    x = torch.zeros(len(molecule.atoms), n_types)
    known = np.flatnonzero(molecule.atoms >= 0)
    x[known, molecule.atoms[known]] = 1
    bonds = torch.from_numpy(molecule.bonds.T.copy())
    return Data(x=x, edge_index=torch.cat([bonds, bonds.flip(0)], dim=1), y=torch.tensor([target]))


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network on the test molecules.

    predicted : (n_test,) float64, in units of the target
    epoch : with the least validation error, from 1
    validation_error : mean squared error over the variance of the training targets, after every epoch
    """

    predicted: NDArray[np.float64]
    epoch: int
    validation_error: Sequence[float]


def train(
    data: Molecules, *, pool: str = "mean", messages: bool = True, seed: int = 0, epochs: int = 200,
    batch_size: int = 64, learning_rate: float = 1e-3,
) -> Trained:  # fmt: skip
    """Train one network with Adam and keep the epoch with the least error on the validation molecules."""
    torch.manual_seed(seed)
    targets = data.targets(data.train)
    mean, scale = float(targets.mean()), float(targets.std())

    def loader(part: Sequence[Molecule], shuffle: bool = False) -> DataLoader:
        graphs = [graph(one, data.n_types, (one.target - mean) / scale) for one in part]
        return DataLoader(graphs, batch_size=batch_size if shuffle else 512, shuffle=shuffle)

    learned, validation, test = loader(data.train, True), loader(data.validation), loader(data.test)
    network = MoleculeGCN(data.n_types, pool, messages)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    best, epoch_of_best, errors = dict[str, Tensor](), 0, list[float]()
    for epoch in range(1, epochs + 1):
        network.train()
        for batch in learned:
            optimizer.zero_grad()
            nn.functional.mse_loss(network(batch), batch.y).backward()
            optimizer.step()
        found = (_predict(network, validation) * scale + mean) - data.targets(data.validation)
        errors.append(float((found**2).mean() / scale**2))
        if errors[-1] == min(errors):
            epoch_of_best = epoch
            best = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(best)
    return Trained(_predict(network, test) * scale + mean, epoch_of_best, errors)


def _predict(network: MoleculeGCN, loader: DataLoader) -> NDArray[np.float64]:
    network.eval()
    with torch.no_grad():
        return torch.cat([network(batch) for batch in loader]).double().numpy()


def n_parameters(n_types: int) -> int:
    """Return the number of weights of the network."""
    return sum(value.numel() for value in MoleculeGCN(n_types).parameters())
