"""The networks in torch, on the processor or a GPU: the numbers of `inference`, where a GPU is at hand.

Plain sums over the edges of the neighbor graph, some million edges at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from phaseseg.families.segmentation.inference import NetworkOutput
from phaseseg.families.segmentation.settings import ATTENTION_SLOPE, NetworkConfig, Scaling
from phaseseg.frame import Frame
from phaseseg.neighbors import Graph, neighbor_graph

# So many numbers are held for the edges of a chunk.
CHUNK = 1 << 26


class TorchNetwork:
    """An ensemble of networks in torch; called as `inference.Network`.

    device : "cpu" or "cuda"

    Raises
    ------
    RuntimeError
        If there is no GPU that torch can use.
    """

    def __init__(
        self,
        config: NetworkConfig,
        scaling: Scaling,
        members: Sequence[Mapping[str, NDArray[np.float32]]],
        *,
        device: str = "cpu",
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("device cuda: torch finds no GPU on this machine; choose the device cpu.")
        self._config, self._device = config, torch.device(device)
        self._scaling = {
            name: self._tensor(getattr(scaling, name)) for name in ("center", "scale", "low", "high")
        }
        self._members = [
            {name: self._tensor(values) for name, values in member.items()} for member in members
        ]

    def _tensor(self, values: NDArray[np.generic]) -> Tensor:
        # A copy: arrays of a checkpoint cannot be written to, which torch warns of.
        return torch.from_numpy(np.array(values)).to(self._device)

    @torch.inference_mode()
    def __call__(self, frame: Frame, codes: NDArray[np.int32]) -> NetworkOutput:
        """Logits of all members, and how far the features lie from those of the training data."""
        config = self._config
        graph = neighbor_graph(frame, cutoff=config.cutoff)
        raw = self._features(graph, self._tensor(codes.astype(np.int64)))
        low, high = self._scaling["low"], self._scaling["high"]
        n_outside = ((raw < low) | (raw > high)).sum(dim=0)
        lowest, highest = raw.amin(dim=0), raw.amax(dim=0)
        x = (torch.clamp(raw, low, high) - self._scaling["center"]) / self._scaling["scale"]
        degrees = self._tensor(np.diff(graph.indptr)).to(torch.float32)
        logits = torch.stack([self._member(graph, degrees, x, weights) for weights in self._members])
        return NetworkOutput(*(values.cpu().numpy() for values in (logits, n_outside, lowest, highest)))

    def _chunks(self, graph: Graph, width: int) -> Iterator[tuple[slice, Tensor, Tensor, slice]]:
        """Atoms and their edges: the atoms, centers within them, neighbors, and which edges these are."""
        indptr, n_atoms, first = graph.indptr, graph.frame.n_atoms, 0
        room = max(CHUNK // max(width, 1), 1)
        while first < n_atoms:
            stop = int(np.searchsorted(indptr, indptr[first] + room, side="right")) - 1
            stop = min(max(stop, first + 1), n_atoms)
            edges = slice(int(indptr[first]), int(indptr[stop]))
            counts = self._tensor(np.diff(indptr[first : stop + 1]))
            center = torch.repeat_interleave(torch.arange(stop - first, device=self._device), counts)
            yield slice(first, stop), center, self._tensor(graph.neighbors[edges]).long(), edges
            first = stop

    def _features(self, graph: Graph, codes: Tensor) -> Tensor:
        """Raw features (n_atoms, F); see `NetworkConfig`."""
        config, n_species = self._config, len(self._config.species)
        raw = torch.zeros((len(codes), config.n_features), device=self._device)
        raw[:, :n_species] = functional.one_hot(codes, n_species)
        target, counter = (
            self._tensor(np.isin(config.species, names)) for names in (config.target, config.counter)
        )
        for atoms, center, neighbor, edges in self._chunks(graph, 4 * n_species):
            n = atoms.stop - atoms.start
            length = self._tensor(graph.edge_length[edges]).double()
            kind = codes[neighbor]
            if config.features == "densities":
                slot = center * n_species + kind
                for w, width in enumerate(config.widths):
                    sums = torch.zeros(n * n_species, dtype=torch.float64, device=self._device)
                    norm = (2 * pi) ** 1.5 * width**3
                    sums.index_add_(0, slot, torch.exp(length**2 * (-0.5 / width**2)) / norm)
                    raw[atoms, (1 + w) * n_species : (2 + w) * n_species] = sums.view(n, n_species).float()
                continue
            wanted = target[kind].double()
            columns = torch.stack(
                [
                    wanted,
                    wanted * length,
                    wanted * length**2,
                    torch.ones_like(length),
                    counter[kind].double(),
                ],
                dim=1,
            )
            sums = torch.zeros((n, 5), dtype=torch.float64, device=self._device)
            sums.index_add_(0, center, columns)
            number = sums[:, 0].clamp(min=1)
            mean = torch.where(sums[:, 0] > 0, sums[:, 1] / number, config.cutoff)
            variance = torch.where(sums[:, 0] > 0, sums[:, 2] / number - mean**2, 0.0).clamp(min=0)
            share = sums[:, 0] / sums[:, 3].clamp(min=1)
            raw[atoms, n_species:] = torch.stack([sums[:, 0], mean, variance, share, sums[:, 4]], 1).float()
        return raw

    def _member(self, graph: Graph, degrees: Tensor, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        config = self._config
        layer = {"gat": self._attention, "gcn": self._convolution, "graphconv": self._sum}
        seen = [x]
        for number, (_, heads, channels) in enumerate(config.layer_shapes, start=1):
            own = {name.split(".")[1]: w for name, w in weights.items() if name.startswith(f"layer{number}.")}
            x = layer[config.architecture](graph, degrees, x, own, heads, channels)
            if config.readout or number < config.layers:
                x = torch.relu(x)
            if config.readout:
                seen.append(x)
        if not config.readout:
            return x
        hidden = functional.linear(
            torch.cat(seen, dim=1), weights["readout1.weight"], weights["readout1.bias"]
        )
        return functional.linear(torch.relu(hidden), weights["readout2.weight"], weights["readout2.bias"])

    def _attention(
        self, graph: Graph, degrees: Tensor, x: Tensor, w: Mapping[str, Tensor], heads: int, channels: int
    ) -> Tensor:
        h = functional.linear(x, w["weight"]).view(-1, heads, channels)
        source, target = (h * w["attention_source"]).sum(-1), (h * w["attention_target"]).sum(-1)

        def leaky(values: Tensor) -> Tensor:
            return functional.leaky_relu(values, ATTENTION_SLOPE)

        out = torch.empty((len(x), heads * channels), device=self._device)
        for atoms, center, neighbor, _ in self._chunks(graph, 2 * heads * channels):
            own = leaky(source[atoms] + target[atoms])  # of the loop that every atom has
            raw = leaky(source[neighbor] + target[atoms][center])
            index = center[:, None].expand(-1, heads)
            most = own.scatter_reduce(0, index, raw, "amax", include_self=True)
            factor = torch.exp(raw - most[center])
            loop = torch.exp(own - most)
            total = loop.index_add(0, center, factor)
            sums = loop[:, :, None] * h[atoms]
            sums.index_add_(0, center, factor[:, :, None] * h[neighbor])
            out[atoms] = (sums / total[:, :, None]).flatten(1)
        return out + w["bias"]

    def _convolution(
        self, graph: Graph, degrees: Tensor, x: Tensor, w: Mapping[str, Tensor], heads: int, channels: int
    ) -> Tensor:
        factor = torch.rsqrt(degrees + 1)[:, None]
        h = functional.linear(x, w["weight"]) * factor
        return self._neighbor_sums(graph, h, h) * factor + w["bias"]

    def _sum(
        self, graph: Graph, degrees: Tensor, x: Tensor, w: Mapping[str, Tensor], heads: int, channels: int
    ) -> Tensor:
        own = functional.linear(x, w["weight_self"], w["bias"])
        return self._neighbor_sums(graph, functional.linear(x, w["weight_neighbors"]), own)

    def _neighbor_sums(self, graph: Graph, values: Tensor, start: Tensor) -> Tensor:
        """(n_atoms, C): `start` and the sums of `values` over the neighbors."""
        out = torch.empty_like(values)
        for atoms, center, neighbor, _ in self._chunks(graph, values.shape[1]):
            out[atoms] = start[atoms].index_add(0, center, values[neighbor])
        return out
