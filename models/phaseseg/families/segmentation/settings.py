"""What a segmentation network is: its settings, the names and shapes of its weights. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.segmentation.defaults import CUTOFF, WIDTHS
from phaseseg.frame import Frame

Architecture = Literal["gat", "gcn", "graphconv"]
FeatureSet = Literal["counts", "densities"]

# Of the leaky rectifier inside the attention, as in PyG and the paper's code.
ATTENTION_SLOPE = 0.2


@dataclass(frozen=True)
class NetworkConfig:
    """A message-passing network over the atoms within `cutoff`, and the features it starts from.

    Any number of species; which of them the rich phase is rich in (`target`) and which one the
    "counts" features count besides (`counter`) are settings, not code.

    Parameters
    ----------
    species : names, in the order of the one-hot features
    target : names of the species that the rich phase is rich in
    counter : names of the species counted by the last of the "counts" features
    architecture : "gat", "gcn" or "graphconv"
        Graph attention (DOI 10.48550/arXiv.1710.10903); symmetrically normalized convolution
        (DOI 10.48550/arXiv.1609.02907); sums over the neighbors beside a weight for the atom itself
        (DOI 10.1609/aaai.v33i01.33014602), which the authors of the paper released as their GCN.
    cutoff : Å
    features : "counts" or "densities"
        The ten of Shakya & Karki (DOI 10.5220/0013709400004000) for five species: one-hot species,
        number of target atoms, mean and variance of their distances, their share among the neighbors,
        number of counter atoms. Or: one-hot species and the densities of every species around the atom,
        smoothed with Gaussians of `widths`.
    widths : Å, of "densities"
    hidden, heads : channels of a hidden layer, per head of attention
    layers : message-passing layers
    readout : hidden units of a network on [features, every layer] that gives the outputs
        0: the last layer gives them, as in the paper.
    outputs : 2 (poor, rich) or 3 (poor, rich, boundary)

    Raises
    ------
    ValueError
        For a setting out of range.
    """

    species: tuple[str, ...]
    target: tuple[str, ...]
    counter: tuple[str, ...] = ()
    architecture: Architecture = "gat"
    cutoff: float = CUTOFF
    features: FeatureSet = "counts"
    widths: tuple[float, ...] = WIDTHS
    hidden: int = 32
    heads: int = 4
    layers: int = 2
    readout: int = 0
    outputs: int = 2

    def __post_init__(self) -> None:
        for name in ("species", "target", "counter", "widths"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.architecture not in ("gat", "gcn", "graphconv"):
            raise ValueError(f"architecture must be gat, gcn or graphconv, found {self.architecture!r}.")
        if self.features not in ("counts", "densities"):
            raise ValueError(f"features must be counts or densities, found {self.features!r}.")
        if self.architecture != "gat":
            object.__setattr__(self, "heads", 1)
        if len(set(self.species)) != len(self.species) or not self.species:
            raise ValueError(f"species must be distinct names, found {self.species}.")
        if not self.target:
            raise ValueError("target must name at least one species.")
        for name in (*self.target, *self.counter):
            if name not in self.species:
                raise ValueError(f"{name!r} is not among the species {', '.join(self.species)}.")
        for name in ("hidden", "heads", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}.")
        if self.readout < 0 or self.outputs not in (2, 3):
            raise ValueError("readout must be at least 0 and outputs 2 or 3.")
        if not 0 < self.cutoff < float("inf"):
            raise ValueError(f"cutoff must be a positive length in Å, found {self.cutoff}.")
        if self.features == "densities" and not (self.widths and min(self.widths) > 0):
            raise ValueError(f"widths must be positive lengths in Å, found {self.widths}.")

    @property
    def n_features(self) -> int:
        n = len(self.species)
        return n + 5 if self.features == "counts" else n * (1 + len(self.widths))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What each feature is, as messages and tables name it."""
        target, counter = "+".join(self.target), "+".join(self.counter) or "counter"
        one_hot = tuple(f"is {name}" for name in self.species)
        if self.features == "densities":
            return one_hot + tuple(
                f"density of {name} at width {width:.3g} Å" for width in self.widths for name in self.species
            )
        return (
            *one_hot,
            f"number of {target} neighbors",
            f"mean distance of {target} neighbors",
            f"variance of the distance of {target} neighbors",
            f"{target} fraction of the neighbors",
            f"number of {counter} neighbors",
        )

    def codes_of(self, frame: Frame) -> NDArray[np.int32]:
        """(n_atoms,) index of each atom's species in `species`; -1 where the network does not know it."""
        place = [self.species.index(name) if name in self.species else -1 for name in frame.species_names]
        return np.asarray(np.array(place, dtype=np.int32)[frame.species])

    @property
    def layer_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(inputs, heads, channels) of every message-passing layer."""
        shapes = []
        inputs = self.n_features
        for layer in range(self.layers):
            is_output = self.readout == 0 and layer == self.layers - 1
            heads, channels = (1, self.outputs) if is_output else (self.heads, self.hidden)
            shapes.append((inputs, heads, channels))
            inputs = heads * channels
        return tuple(shapes)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight of one member."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (inputs, heads, channels) in enumerate(self.layer_shapes, start=1):
            width = heads * channels
            if self.architecture == "graphconv":
                shapes[f"layer{layer}.weight_neighbors"] = (width, inputs)
                shapes[f"layer{layer}.weight_self"] = (width, inputs)
            else:
                shapes[f"layer{layer}.weight"] = (width, inputs)
            if self.architecture == "gat":
                shapes[f"layer{layer}.attention_source"] = (heads, channels)
                shapes[f"layer{layer}.attention_target"] = (heads, channels)
            shapes[f"layer{layer}.bias"] = (width,)
        if self.readout:
            inputs = self.n_features + sum(heads * channels for _, heads, channels in self.layer_shapes)
            shapes["readout1.weight"], shapes["readout1.bias"] = (self.readout, inputs), (self.readout,)
            shapes["readout2.weight"] = (self.outputs, self.readout)
            shapes["readout2.bias"] = (self.outputs,)
        return shapes

    @property
    def n_parameters(self) -> int:
        return int(sum(np.prod(shape) for shape in self.weight_shapes().values()))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON keeps them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkConfig:
        """The inverse of `to_dict`.

        Raises
        ------
        ValueError
            For an unknown setting: the file was written by a newer version.
        """
        unknown = sorted(set(values) - {entry.name for entry in fields(cls)})
        if unknown:
            raise ValueError(f"unknown settings of the network: {', '.join(unknown)}; update ovito-phaseseg.")
        return cls(**values)


@dataclass(frozen=True, eq=False)
class Scaling:
    """How raw features enter the network: clipped to [low, high], then (x - center) / scale.

    The clip keeps what training never showed from being extrapolated. center, scale, low, high : (F,) float32
    """

    center: NDArray[np.float32]
    scale: NDArray[np.float32]
    low: NDArray[np.float32] = field(repr=False)
    high: NDArray[np.float32] = field(repr=False)

    @classmethod
    def of(cls, features: NDArray[np.floating[Any]]) -> Scaling:
        """From the raw features (n, F) of a training set; features that never vary keep the scale 1."""
        center, spread = features.mean(axis=0), features.std(axis=0)
        scale = np.where(spread > 1e-6 * np.maximum(np.abs(center), 1e-6), spread, 1.0)
        low, high = features.min(axis=0), features.max(axis=0)
        return cls(*(np.asarray(values, dtype=np.float32) for values in (center, scale, low, high)))

    def apply(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Scaled float32 features of raw ones (n, F)."""
        return np.asarray(
            (np.clip(features, self.low, self.high) - self.center) / self.scale, dtype=np.float32
        )
