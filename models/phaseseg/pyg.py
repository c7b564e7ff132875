"""Networks of checkpoints as modules over PyTorch Geometric data; needs the extra `pyg`.

>>> from phaseseg.pyg import network, to_data                       # doctest: +SKIP
>>> data = to_data(frame, "gat-v1")                                 # doctest: +SKIP
>>> logits = network("gat-v1", member=0)(data)                      # doctest: +SKIP

Edges follow the convention of PyTorch Geometric: `edge_index[0]` is the source j, which sends, and
`edge_index[1]` the target i, which receives. They are sorted by their target, and each has its
reverse; keep both properties when you change a graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from phaseseg.api import AnyModel, load_model
from phaseseg.families import family_named, load
from phaseseg.frame import Frame
from phaseseg.nn.ensemble import loaded
from phaseseg.nn.ops import EdgeTensors, Neighbors


class GraphData(Data):  # type: ignore[misc]
    """A `Data` whose attribute `reverse`, if there is one, holds numbers of edges, also in a batch."""

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return self.num_edges if key == "reverse" else super().__inc__(key, value, *args, **kwargs)


def _form(model: Any) -> Any:
    """How the networks of the family read graphs; see `Family.graph`."""
    family = family_named(model.checkpoint.family)
    form = load(family.graph)(model) if family.graph else None
    if form is None:
        raise ValueError(f"{model.name} does not work on a graph, so it has no form in PyTorch Geometric.")
    return form


def to_data(frame: Frame, model: AnyModel | None = None) -> GraphData:
    """A frame as the networks of a model read it.

    Parameters
    ----------
    frame : Frame
    model : as for `phaseseg.load_model`

    Returns
    -------
    GraphData
        `x` (n_atoms, F), scaled features; `edge_index` (2, n_edges); `edge_attr` (n_edges, G) where the
        networks have features of edges; `pos` (n_atoms, 3) and `cell` (1, 3, 3), in the length unit of the
        frame; `n_atoms`. `Batch.from_data_list` joins several.

    Raises
    ------
    ValueError
        For a frame that the model refuses, and for networks that do not work on graphs.
    """
    found = load_model(model)
    arrays: dict[str, Any] = _form(found).arrays(frame)
    indptr, source = arrays.pop("indptr"), arrays.pop("source")
    target = np.repeat(np.arange(frame.n_atoms), np.diff(indptr))
    tensors = {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()}
    return GraphData(
        edge_index=torch.from_numpy(np.stack([source.astype(np.int64), target])),
        pos=torch.from_numpy(frame.positions.copy()), cell=torch.from_numpy(frame.cell[None].copy()),
        num_nodes=frame.n_atoms, n_atoms=frame.n_atoms, **tensors,
    )  # fmt: skip


class GraphNetwork(nn.Module):
    """One network of a checkpoint, or the mean of all of them, over `GraphData` and batches of it.

    Called with data it gives what one network gives, before any calibration: a tensor or a named tuple of
    tensors, on the device of the data. Gradients flow to weights and features. Sums over edges run in
    compiled loops on the processor and in plain PyTorch elsewhere.
    """

    def __init__(self, model: Any, member: int | None) -> None:
        super().__init__()
        self.form = _form(model)
        if member is not None and not 0 <= member < len(model.members):
            raise ValueError(f"{model.name} has no member {member}; it has {len(model.members)}, from 0.")
        chosen = model.members if member is None else [model.members[member]]
        self.networks = nn.ModuleList(loaded(self.form.build(), weights) for weights in chosen)

    def forward(self, data: Data) -> Any:
        edges = _edges(data)
        sizes = torch.as_tensor(data.n_atoms, device=data.x.device).reshape(-1)
        return _mean([self.form.forward(one, data, edges, sizes) for one in self.networks])


def _edges(data: Data) -> Neighbors | EdgeTensors:
    source, target = data.edge_index
    counts = torch.bincount(target, minlength=data.num_nodes)
    if (target[1:] < target[:-1]).any():
        raise ValueError("edges must be sorted by their target, edge_index[1], as to_data gives them.")
    # Gradients along the edges take this for granted.
    if not torch.equal(counts, torch.bincount(source, minlength=data.num_nodes)):
        raise ValueError("each edge must have its reverse, as to_data gives them.")
    indptr = np.concatenate([[0], np.cumsum(counts.cpu().numpy())])
    reverse = data.get("reverse")
    if source.device.type != "cpu":
        return EdgeTensors(indptr, source, reverse)
    back = None if reverse is None else reverse.numpy().astype(np.int32)
    return Neighbors(indptr, source.numpy().astype(np.int32), back)


def _mean(outputs: list[Any]) -> Any:
    """The mean of tensors, or of each entry of tuples of tensors; None stays None."""
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.stack(outputs).mean(dim=0)
    return None if first is None else type(first)(*map(_mean, map(list, zip(*outputs, strict=True))))


def network(model: AnyModel | None = None, member: int | None = None) -> GraphNetwork:
    """The networks of a model as a module over the data of `to_data`.

    Parameters
    ----------
    model : as for `phaseseg.load_model`
    member : number of a network, from 0; the mean of what all of them give if left out

    Raises
    ------
    ValueError
        For networks that do not work on graphs, and for a member that does not exist.
    """
    return GraphNetwork(load_model(model), member)
