"""Try an equivariant network, which sees the vectors from the snapshot to cage and inherent positions.

    python -m phaseseg.recipes.mobility.equivariant --data FOLDER --work FOLDER --output FOLDER [--epochs 30]
        [--temperature 0.64]

The network is that of the checkpoints with a second kind of state: vectors, which turn with the system. They
start as the displacements to the mean cage position and to the inherent position. In each round they are
summed over shells of neighbors like the scalars, scalars make new vectors along the directions to neighbors,
and lengths and divergences of vectors enter the scalars. The same network without vectors is trained next to
it, with the same folds, seeds and epochs: five folds, one member per fold. Scores of every fold go to
`equivariant-TEMPERATURE.json` as soon as they are known, and finished folds are not trained again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional

from phaseseg.families.mobility.crossvalidation import blend_of, type_scores
from phaseseg.families.mobility.filters import (
    EPSILON,
    N_OPERATORS,
    SHELL_EDGES,
    TYPE_SCALES,
    network_inputs,
)
from phaseseg.families.mobility.learner import N_TYPES, of_own_type
from phaseseg.families.mobility.learner_fit import Sample, folds_of, input_scales
from phaseseg.families.mobility.ridge import RidgeSums, standardized
from phaseseg.families.mobility.structure import Structure
from phaseseg.frame import Frame
from phaseseg.io import atomic_output
from phaseseg.neighbors import neighbor_graph
from phaseseg.recipes.cards import say
from phaseseg.recipes.mobility.samples import CONFIGS, samples_of
from phaseseg.recipes.mobility.systems import STATES, System, prepare, systems_at
from phaseseg.recipes.mobility.train import arguments
from phaseseg.training.loop import deterministic

HIDDEN, VECTORS, ROUNDS, DROPOUT = 32, 8, 4, 0.25
RATE, DECAY, CLIP = 3e-3, 1e-2, 1.0


class _Product(torch.autograd.Function):
    """A constant sparse matrix times a dense one."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: csr_matrix, transposed: csr_matrix) -> Tensor:
        ctx.transposed = transposed
        return torch.from_numpy(matrix @ dense.detach().numpy())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return torch.from_numpy(ctx.transposed @ gradients[0].detach().numpy()), None, None


@dataclass(frozen=True, eq=False)
class Operators:
    """Sums over neighbors in two shells, of both types, with the weights of the graph filters.

    sums : (4 n, n), as in `Filters`; slopes : (12 n, n), the same times the three components of the unit
        vector from a particle to its neighbor; each with its transposed matrix
    """

    n: int
    sums: tuple[csr_matrix, csr_matrix]
    slopes: tuple[csr_matrix, csr_matrix]

    @classmethod
    def of(cls, frame: Frame, codes: NDArray[np.int32]) -> Operators:
        """The operators at the positions of a frame."""
        graph = neighbor_graph(frame, cutoff=SHELL_EDGES[-1])
        center, neighbor = graph.edge_index
        weights = np.exp(-graph.edge_length / 2.1) * np.asarray(TYPE_SCALES)[codes[neighbor]]
        which = np.searchsorted(SHELL_EDGES[1:-1], graph.edge_length) * N_TYPES + codes[neighbor]
        units = graph.edge_vector / np.maximum(graph.edge_length, 1e-9)[:, None]
        n = frame.n_atoms

        def both(rows: NDArray[Any], values: NDArray[Any], blocks: int) -> tuple[csr_matrix, csr_matrix]:
            columns = np.tile(neighbor, len(rows) // len(neighbor))
            made = csr_matrix((values.astype(np.float32), (rows, columns)), shape=(blocks * n, n))
            return made, made.T.tocsr()

        slopes = [(3 * which + axis) * n + center for axis in range(3)]
        values = [weights * units[:, axis] for axis in range(3)]
        return cls(
            n, both(which * n + center, weights, N_OPERATORS),
            both(np.concatenate(slopes), np.concatenate(values), 3 * N_OPERATORS),
        )  # fmt: skip

    def summed(self, rows: Tensor) -> Tensor:
        """(n, 4, columns) sums of (n, columns)."""
        found: Tensor = _Product.apply(rows.contiguous(), *self.sums)
        return found.view(N_OPERATORS, self.n, -1).transpose(0, 1)

    def gradients(self, rows: Tensor) -> Tensor:
        """(n, 3, 4 columns) vectors along the directions to neighbors, from (n, columns) scalars."""
        found: Tensor = _Product.apply(rows.contiguous(), *self.slopes)
        return found.view(N_OPERATORS, 3, self.n, -1).permute(2, 1, 0, 3).flatten(2)

    def divergences(self, vectors: Tensor) -> Tensor:
        """(n, 4 columns) sums of the components along these directions, from (n, 3, columns) vectors."""
        found: Tensor = _Product.apply(vectors.flatten(1).contiguous(), *self.slopes)
        square = found.view(N_OPERATORS, 3, self.n, 3, -1)
        return torch.einsum("kanac->nkc", square).flatten(1)


class EquivariantNetwork(nn.Module):
    """The graph filter network with vectors next to its scalars; without them if `vectors` is 0.

    columns : of the inputs, with the type
    """

    def __init__(self, columns: int, outputs: int, vectors: int = VECTORS) -> None:
        super().__init__()
        h, c, k = HIDDEN, vectors, N_OPERATORS
        self.vectors = vectors
        self.input = nn.Linear(columns, h)
        self.first = nn.Linear(2, c, bias=False) if c else None
        self.norm = nn.ModuleList(nn.LayerNorm(h, eps=EPSILON) for _ in range(ROUNDS))
        self.scalars = nn.ModuleList(nn.Linear(h + k * h + (k + 1) * c, h) for _ in range(ROUNDS))
        if c:
            self.lean = nn.ModuleList(nn.Linear(h, c, bias=False) for _ in range(ROUNDS))
            self.gate = nn.ModuleList(nn.Linear(h, c) for _ in range(ROUNDS))
            self.mixed = nn.ModuleList(
                nn.Linear((1 + 2 * k) * c, c, bias=False) for _ in range(ROUNDS)
            )  # fmt: skip
        self.output = nn.Linear((ROUNDS + 1) * h, outputs)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, inputs: Tensor, vectors: Tensor, operators: Operators) -> Tensor:
        """(n, outputs) for (n, columns) scalars and (n, 3, 2) vectors."""
        h = self.input(inputs)
        v = None if self.first is None else self.first(vectors)
        every = [h]
        for k in range(ROUNDS):
            y = self.norm[k](h)
            seen = [y, operators.summed(y).flatten(1)]
            if v is not None:
                w = v / (v.square().sum(dim=1, keepdim=True).mean(dim=2, keepdim=True) + EPSILON).sqrt()
                seen += [w.square().sum(dim=1), operators.divergences(w)]
                sums = operators.summed(w.flatten(1)).reshape(len(w), N_OPERATORS, 3, -1)
                moved = torch.cat(
                    [w, sums.transpose(1, 2).flatten(2), operators.gradients(self.lean[k](y))], dim=2
                )
                v = v + torch.tanh(self.gate[k](y))[:, None] * self.mixed[k](moved)
            a = functional.silu(self.scalars[k](torch.cat(seen, dim=1)))
            h = h + functional.dropout(a, DROPOUT, self.training)
            every.append(h)
        return self.output(torch.cat(every, dim=1))  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Inputs:
    """A system: scalars (n, columns), vectors (n, 3, 2), operators, targets (n, 1) and types (n,)."""

    scalars: Tensor
    vectors: Tensor
    operators: Operators
    aims: Tensor
    codes: NDArray[np.int32]


def vectors_of(structure: Structure) -> NDArray[np.float64]:
    """(n, 3, 2): from the snapshot to the mean cage position, and to the inherent position."""
    found = np.stack(
        [structure.cage_positions - structure.thermal_positions,
         structure.inherent_positions - structure.thermal_positions], axis=2,
    )  # fmt: skip
    edges = np.diag(structure.frame.cell)[None, :, None]
    return np.asarray(found - edges * np.round(found / edges))


def inputs_of(samples: Sequence[Sample], structures: Sequence[Structure]) -> list[Inputs]:
    """The inputs of all systems; vectors are divided by their root mean square over all systems."""
    codes = [sample.features.codes for sample in samples]
    center, scale = input_scales(samples, codes)
    vectors = [vectors_of(structure) for structure in structures]
    size = np.sqrt(np.mean([np.mean(v**2, axis=(0, 1)) for v in vectors], axis=0))
    found = []
    for sample, structure, c, v in zip(samples, structures, codes, vectors, strict=True):
        calm = structure.frame.replace(positions=structure.inherent.positions)
        aims = standardized(sample.targets, c)[0].astype(np.float32)
        found.append(
            Inputs(
                torch.from_numpy(network_inputs(sample.features.rows, c, center, scale)),
                torch.from_numpy((v / size).astype(np.float32)), Operators.of(calm, c),
                torch.from_numpy(aims), c,
            )
        )  # fmt: skip
    return found


def train_fold(
    data: Sequence[Inputs], trained: Sequence[int], held: Sequence[int], vectors: int, epochs: int, seed: int
) -> list[NDArray[np.floating[Any]]]:
    """Outputs (n, 1) of the held systems after training on the others."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = EquivariantNetwork(data[0].scalars.shape[1], N_TYPES, vectors)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * len(trained))
    for epoch in range(1, epochs + 1):
        begin, total = perf_counter(), 0.0
        for k in rng.permutation(np.asarray(trained)).tolist():
            own, one = data[k], torch.from_numpy(data[k].codes.astype(np.int64)[:, None])
            optimizer.zero_grad()
            errors = (network(own.scalars, own.vectors, own.operators).gather(1, one) - own.aims) ** 2
            loss = torch.stack([errors[one == t].mean() for t in range(N_TYPES)]).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()
            schedule.step()
            total += float(loss.item())
        if epoch % 10 == 0:
            say(f"epoch {epoch}: loss {total / len(trained):.4f}, {perf_counter() - begin:.1f} s")
    network.eval()
    with torch.no_grad():
        outputs = [network(data[k].scalars, data[k].vectors, data[k].operators).numpy() for k in held]
    return [of_own_type(out, data[k].codes) for out, k in zip(outputs, held, strict=True)]


def compare(systems: Sequence[System], work: Path, target: Path, epochs: int) -> dict[str, Any]:
    """Scores of both networks alone and blended with the ridge, on systems that were not trained on."""
    config = CONFIGS[0.44]["net"]
    structures = prepare(systems, work)
    samples = samples_of(systems, config, work, structures)
    data = inputs_of(samples, structures)
    folds = folds_of([sample.name for sample in samples], 5)
    codes = [one.codes for one in data]
    sums = RidgeSums([s.features.ridge for s in samples], [d.aims.numpy() for d in data], codes, N_TYPES)
    results: dict[str, Any] = json.loads(target.read_text("utf-8")) if target.is_file() else {}
    for name, vectors in (("scalars", 0), ("scalars and vectors", VECTORS)):
        networks: list[NDArray[Any]] = [np.zeros(0)] * len(data)
        ridges: list[NDArray[np.float64]] = [np.zeros(0)] * len(data)
        for fold in range(int(folds.max()) + 1):
            held, trained = np.flatnonzero(folds == fold).tolist(), np.flatnonzero(folds != fold).tolist()
            ridge = sums.solve(trained, config.penalty)
            path = work / f"equivariant-{vectors}-{epochs}-{fold}.npz"
            if path.is_file():
                with np.load(path, allow_pickle=False) as file:
                    own = [file[f"s{k}"] for k in held]
            else:
                begin = perf_counter()
                with deterministic():
                    own = train_fold(data, trained, held, vectors, epochs, fold)
                with atomic_output(path) as fresh, fresh.open("wb") as stream:
                    np.savez(stream, **{f"s{k}": v for k, v in zip(held, own, strict=True)})  # type: ignore[arg-type]
                say(f"{name}, fold {fold + 1}: {perf_counter() - begin:.0f} s")
            for k, out in zip(held, own, strict=True):
                networks[k], ridges[k] = out, ridge(samples[k].features.ridge, codes[k])
        targets = [sample.targets for sample in samples]
        _, blended = blend_of(networks, ridges, targets, codes, config.ridge_share)
        for part, found in (("network", networks), ("blend with the ridge", blended)):
            scores = np.stack([type_scores(p, y, c) for p, y, c in zip(found, targets, codes, strict=True)])
            results[f"{name}, {part}"] = {
                "A": float(scores[:, 0, 0].mean()), "B": float(scores[:, 1, 0].mean()),
                "A by system": np.round(scores[:, 0, 0], 4).tolist(),
            }  # fmt: skip
            say(f"{name}, {part}: A {scores[:, 0, 0].mean():.4f}, B {scores[:, 1, 0].mean():.4f}")
        with atomic_output(target) as fresh:
            fresh.write_text(json.dumps(results, indent=1), "utf-8")
    return results


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    systems, _ = systems_at(STATES[options.temperature], options.data)
    name = f"equivariant-{options.temperature:g}.json"
    compare(systems, options.work, options.output / name, options.epochs)


if __name__ == "__main__":
    main()
