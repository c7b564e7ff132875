"""What a network that tells liquid from glass is: its settings and its weights' shapes. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import inf, isfinite
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from phaseseg.frame import Frame

Architecture = Literal["dmpnn", "cnn"]
FeatureSet = Literal["distances", "types", "coordinates"]

LENGTH_CENTERS = tuple(round(0.7 + 1.6 * i / 15, 6) for i in range(16))
"""σ: centers of the Gaussians in which the length of an edge is written down; their width is the spacing."""

SCORE_BOUND = 3.0
"""Scores of attention are c tanh(s / c) with this c: no edge weighs more than e^6 times another.

Unbounded, one edge or two of a hot liquid would take all the weight, and in a larger graph others than in
a window of it.
"""

_GRAPH_SETTINGS = ("attention", "k", "hidden", "steps", "ffn_layers", "features")
_IMAGE_SETTINGS = (
    "image_size", "pixels_per_sigma", "kernels", "kernel_sizes", "pool", "normalize", "dense",
    "global_average", "radii", "colors", "background",
)  # fmt: skip


@dataclass(frozen=True)
class GlassConfig:
    """A network that gives the probability that a configuration is glass, of graphs or of images.

    "dmpnn" passes messages along the directed edges between nearest neighbors (DOI 10.48550/arXiv.1909.04648;
    DOI 10.1021/acs.jcim.9b00237), "cnn" convolves a picture of disks. Both tell two kinds of particles apart,
    A and B, whatever they are called, and learn from windows cut out of larger configurations.

    Parameters
    ----------
    architecture : "dmpnn" or "cnn"
    dimensions : 2 or 3; images have 2
    species : names of A and B in the training data
    window : (dmpnn) (low, high) σ, edge of a window; drawn between them, and cut to the cell's
        The paper's are 6 to 18 σ of a cell of 60 σ.
    dropout : share of the units that training leaves out, after every rectifier
    attention : (dmpnn) edges are weighted by a softmax over the edges of their graph
    k : (dmpnn) nearest neighbors of a particle; an edge joins two of which one is among those of the other
    hidden : (dmpnn) numbers on a directed edge, and units of the heads
    steps : (dmpnn) T, how often edges get numbers: once from their ends, then T - 1 times from messages
    ffn_layers : (dmpnn) linear layers of the head of the graph, the last with one output
    features : (dmpnn) "distances", "types" or "coordinates"
        What the network is told beside the kind of a particle, and whether both ends of an edge have each
        other among their nearest: lengths of edges as Gaussians at `LENGTH_CENTERS`; nothing; coordinates in
        the window over its edge, as in the paper, with which the answer changes when the particles are moved
        or rotated.
    image_size : (cnn) pixels along the edge of an image
    pixels_per_sigma : (cnn) resolution; an image shows image_size / pixels_per_sigma σ
    kernels, kernel_sizes : (cnn) number and edge (pixels) of the kernels of the two convolutions
    pool : (cnn) edge, in pixels, of the squares that are averaged after each convolution
        1 is the paper's network, of 300 MB with images of 250 pixels.
    normalize : (cnn) whether every channel is brought to mean 0 and deviation 1, those of the training
        images, after each convolution and before the dense layer; the paper's network does without
    dense : (cnn) units of the layer before the output
    global_average : (cnn) whether the second convolution is averaged over the image, whose size is then free
    radii : (cnn) σ, of the disks of A and B
    colors, background : (cnn) red, green and blue from 0 to 1 of A and B, and of what no disk covers

    Raises
    ------
    ValueError
        For a setting out of range.
    """

    architecture: Architecture = "dmpnn"
    dimensions: int = 2
    species: tuple[str, str] = ("A", "B")
    window: tuple[float, float] = (6.0, 18.0)
    dropout: float = 0.0
    attention: bool = False
    k: int = 2
    hidden: int = 64
    steps: int = 3
    ffn_layers: int = 2
    features: FeatureSet = "distances"
    image_size: int = 250
    pixels_per_sigma: float = 250 / 12
    kernels: tuple[int, int] = (6, 16)
    kernel_sizes: tuple[int, int] = (10, 5)
    pool: int = 4
    normalize: bool = True
    dense: int = 80
    global_average: bool = False
    radii: tuple[float, float] = (0.5, 0.44)
    colors: tuple[tuple[float, float, float], tuple[float, float, float]] = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("species", "window", "kernels", "kernel_sizes", "radii", "background"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "colors", tuple(tuple(color) for color in self.colors))
        if self.architecture not in get_args(Architecture):
            raise ValueError(f"architecture must be dmpnn or cnn, found {self.architecture!r}.")
        if self.features not in get_args(FeatureSet):
            raise ValueError(f"features must be distances, types or coordinates, found {self.features!r}.")
        if self.dimensions not in (2, 3):
            raise ValueError(f"dimensions must be 2 or 3, found {self.dimensions}.")
        if self.architecture == "cnn" and self.dimensions == 3:
            raise ValueError("images are of two dimensions; use the architecture dmpnn in three.")
        if self.architecture == "cnn" and self.attention:
            raise ValueError("attention is on the edges of a graph; use it with the architecture dmpnn.")
        if len(self.species) != 2 or len(set(self.species)) != 2 or not all(self.species):
            raise ValueError(f"species must be two names, of A and of B, found {self.species}.")
        if len(self.window) != 2 or not 0 < self.window[0] <= self.window[1] < inf:
            raise ValueError(f"window must be two lengths in σ, 0 < low <= high, found {self.window}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, found {self.dropout}.")
        for name in ("k", "hidden", "steps", "ffn_layers", "image_size", "pool", "dense"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}.")
        for name in ("kernels", "kernel_sizes"):
            if len(getattr(self, name)) != 2 or min(getattr(self, name)) < 1:
                raise ValueError(f"{name} must be two numbers from 1 on, found {getattr(self, name)}.")
        for name in ("pixels_per_sigma", "radii"):
            if not all(isfinite(value) and value > 0 for value in np.ravel(getattr(self, name))):
                raise ValueError(f"{name} must be positive, found {getattr(self, name)}.")
        shades = np.array([*self.colors, self.background], dtype=float)
        if shades.shape != (3, 3) or not (shades.min() >= 0 and shades.max() <= 1):
            raise ValueError("colors and background must be three numbers each, from 0 to 1.")
        if self.architecture == "cnn" and self.convolved_sizes[-1] < 1:
            raise ValueError(
                f"images of {self.image_size} pixels are too small for kernels of {self.kernel_sizes[0]} and "
                f"{self.kernel_sizes[1]} pixels with pooling over {self.pool}."
            )

    # -------------------------------------------------------------------------------------- particles

    def codes_of(self, frame: Frame, b: str | tuple[str, ...] | None = None) -> NDArray[np.int32]:
        """(n_atoms,) 0 for A and 1 for B.

        b : names that are B, all others are A; those of `species` if left out

        Raises
        ------
        ValueError
            If `b` is left out and a particle is neither, or if one of the two kinds is missing.
        """
        where = frame.error_prefix
        present = [frame.species_names[code] for code in np.unique(frame.species)]
        if b is None:
            strange = [name for name in present if name not in self.species]
            if strange:
                raise ValueError(
                    f"{where}{', '.join(strange)} is unknown to the network, whose particles are "
                    f"{self.species[0]} (A) and {self.species[1]} (B); say which species are B."
                )
            b = self.species[1:]
        names = (b,) if isinstance(b, str) else tuple(b)
        is_b = np.array([name in names for name in frame.species_names], dtype=bool)
        codes = np.asarray(is_b[frame.species], dtype=np.int32)
        if not codes.any() or codes.all():
            missing = f"no particle is {' or '.join(names)}" if not codes.any() else "every particle is B"
            raise ValueError(
                f"{where}{missing}; the species are {', '.join(present) or 'none'}, and a mixture of two "
                "kinds is needed. Say which species are B."
            )
        return codes

    # --------------------------------------------------------------------------------------- features

    @property
    def n_node_features(self) -> int:
        """Numbers of a particle: is A, is B, and its coordinates where they are used."""
        return 2 + (self.dimensions if self.features == "coordinates" else 0)

    @property
    def n_edge_features(self) -> int:
        """Numbers of an edge: Gaussians of its length where they are used, and whether it is mutual."""
        return 1 + (len(LENGTH_CENTERS) if self.features == "distances" else 0)

    @property
    def convolved_sizes(self) -> tuple[int, int]:
        """Edges, in pixels, of the images after each convolution and its pooling."""
        size, sizes = self.image_size, []
        for kernel in self.kernel_sizes:
            size = (size - kernel + 1) // self.pool
            sizes.append(size)
        return sizes[0], sizes[1]

    @property
    def image_edge(self) -> float:
        """σ: what an image shows."""
        return self.image_size / self.pixels_per_sigma

    # ---------------------------------------------------------------------------------------- weights

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight of one member; linear layers are (out, in) as in PyTorch."""
        if self.architecture == "cnn":
            one, two = self.kernels
            first, second = self.kernel_sizes
            flat = two * (1 if self.global_average else self.convolved_sizes[1] ** 2)
            layers = {
                "convolution1.weight": (one, 3, first, first), "convolution1.bias": (one,),
                "convolution2.weight": (two, one, second, second), "convolution2.bias": (two,),
                "dense.weight": (self.dense, flat), "dense.bias": (self.dense,),
                "output.weight": (1, self.dense), "output.bias": (1,),
            }  # fmt: skip
            for i, channels in enumerate((one, two, flat) if self.normalize else (), start=1):
                layers |= {f"normalization{i}.mean": (channels,), f"normalization{i}.scale": (channels,)}
            return layers
        h = self.hidden
        shapes: dict[str, tuple[int, ...]] = {
            "input.weight": (h, self.n_node_features + self.n_edge_features), "input.bias": (h,),
            "output.weight": (h, self.n_node_features + h), "output.bias": (h,),
        }  # fmt: skip
        if self.steps > 1:
            shapes["message.weight"] = (h, h)
        if self.attention:
            shapes["attention.weight"] = (1, h)
        for i in range(self.ffn_layers):
            width = 1 if i == self.ffn_layers - 1 else h
            shapes |= {f"readout.{i}.weight": (width, h), f"readout.{i}.bias": (width,)}
        for i, width in enumerate((h, 1)):
            shapes |= {f"node.{i}.weight": (width, h), f"node.{i}.bias": (width,)}
        return shapes

    @property
    def n_parameters(self) -> int:
        return int(sum(np.prod(shape) for shape in self.weight_shapes().values()))

    # ------------------------------------------------------------------------------------------- JSON

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON keeps them; settings of the other architecture are left out."""
        other = _GRAPH_SETTINGS if self.architecture == "cnn" else _IMAGE_SETTINGS
        return {name: value for name, value in asdict(self).items() if name not in other}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GlassConfig:
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
