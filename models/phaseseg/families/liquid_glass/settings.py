"""Settings of networks that distinguish liquid from glass, and of their training; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from phaseseg.nn.config import NetworkSettings
from phaseseg.training.settings import Settings, check_choices, setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from phaseseg.frame import Frame

Architecture = Literal["dmpnn", "cnn"]
FeatureSet = Literal["distances", "types", "coordinates"]

LENGTH_CENTERS = tuple(round(0.7 + 1.6 * i / 15, 6) for i in range(16))
"""Centers of the Gaussians that describe the length of an edge, σ; their width is the spacing."""

SCORE_BOUND = 3.0
"""Bound c of the attention scores c tanh(s / c): no edge weighs more than e^6 times another.

Without a bound, a single edge of a hot liquid can take nearly all the weight, and a window can have a
different dominant edge than the whole configuration.
"""

RECIPE: Mapping[str, Any] = {
    "architecture": "dmpnn", "attention": False, "window": (6.0, 18.0), "k": 2, "hidden": 64, "steps": 3,
    "dropout": 0.0, "ffn_layers": 2, "features": "distances",
}  # fmt: skip
"""Default network on graphs; settings of `GlassConfig`."""
IMAGE_RECIPE: Mapping[str, Any] = {
    "architecture": "cnn", "dropout": 0.0, "image_size": 160, "pixels_per_sigma": 8.0, "radii": (0.35, 0.3),
    "pool": 4, "dense": 80, "global_average": True,
}  # fmt: skip
"""Default network on images, which show 20 σ; smaller or coarser images make it less accurate."""
IMAGES = 16
"""Smallest number of images in a batch, because channels are normalized with the batch statistics."""
TRAINING: Mapping[str, Any] = {
    "epochs": 20, "batch_atoms": 1000, "learning_rate": 2e-3, "patience": 10,
}  # fmt: skip
"""Default training; settings of `phaseseg.training.settings.Settings`."""
WINDOWS = 2000
"""Windows per epoch, half of them glass."""
HELD_WINDOWS = 600
"""Windows for validating a member, half of them glass."""
FOLDS = 3
"""Number of folds of the runs; each validates one member."""

SEARCH_EPOCHS = 10
"""Epochs per network in a search, which only has to rank settings."""
SEARCH_SPACE: Mapping[str, Mapping[str, tuple[float, float, float | str]]] = {
    "dmpnn": {
        "k": (1, 5, 1), "hidden": (16, 96, 16), "steps": (2, 6, 1), "dropout": (0.0, 0.5, 0.05),
        "ffn_layers": (1, 3, 1), "learning_rate": (3e-4, 1e-2, "log"),
    },
    "cnn": {
        "pool": (3, 5, 1), "dense": (20, 100, 20), "dropout": (0.0, 0.5, 0.05),
        "learning_rate": (1e-4, 3e-3, "log"),
    },
}  # fmt: skip
"""Search space: lowest value, highest value and step, or "log" for a logarithmic scale.

The settings are those of the paper, with widths for one core. The window size is not searched, because every
network is better in larger windows and the largest would always be chosen.
"""

_GRAPH_SETTINGS = ("attention", "k", "hidden", "steps", "ffn_layers", "features")
_IMAGE_SETTINGS = (
    "image_size", "pixels_per_sigma", "kernels", "kernel_sizes", "pool", "normalize", "dense",
    "global_average", "radii", "colors", "background",
)  # fmt: skip
_NETWORK_SETTINGS = (
    "architecture", "attention", "features", "window", "k", "hidden", "steps", "ffn_layers", "pool", "dense",
    "dropout", "species",
)  # fmt: skip
"""Settings that `GlassSettings` shares with `GlassConfig`."""


# Network ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GlassConfig(NetworkSettings):
    """A network that gives the probability that a configuration is a glass.

    "dmpnn" passes messages along the directed edges between nearest neighbors (DOI 10.48550/arXiv.1909.04648;
    DOI 10.1021/acs.jcim.9b00237); "cnn" convolves images of disks. Both distinguish two kinds of particles,
    A and B, and are trained on windows cut from larger configurations.

    Parameters
    ----------
    architecture : "dmpnn" or "cnn"
    dimensions : 2 or 3; images have 2
    species : names of A and B in the training data
    window : (dmpnn) (low, high) σ, range of the edges of windows, which are at most those of the cell
        The paper cuts windows of 6 to 18 σ from a cell of 60 σ.
    dropout : fraction of units dropped in training, after every rectifier
    attention : (dmpnn) edges are weighted by a softmax over the edges of their graph
    k : (dmpnn) nearest neighbors; an edge joins two particles if one is among the k nearest of the other
    hidden : (dmpnn) size of the state of a directed edge, and units of the heads
    steps : (dmpnn) T; edge states are initialized once and updated by messages T - 1 times
    ffn_layers : (dmpnn) linear layers of the head of the graph, the last with one output
    features : (dmpnn) "distances", "types" or "coordinates"
        "types" uses only the kinds of particles and whether an edge is mutual; "distances" adds the lengths
        of edges as Gaussians at `LENGTH_CENTERS`; "coordinates" adds coordinates in units of the window, as
        in the paper. With coordinates, the output changes when the particles are translated or rotated.
    image_size : (cnn) pixels along the edge of an image
    pixels_per_sigma : (cnn) resolution; an image shows image_size / pixels_per_sigma σ
    kernels, kernel_sizes : (cnn) number and edge (pixels) of the kernels of the two convolutions
    pool : (cnn) edge, in pixels, of the squares averaged after each convolution; 1 in the paper
    normalize : (cnn) whether every channel is normalized with the mean and deviation of the training images,
        after each convolution and before the dense layer; the paper's network does not normalize
    dense : (cnn) units of the layer before the output
    global_average : (cnn) whether the second convolution is averaged over the image
        The network then takes images of any size.
    radii : (cnn) radii of the disks of A and B, σ
    colors, background : (cnn) red, green and blue from 0 to 1 for the disks of A and B, and the background

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
            raise ValueError("images need two dimensions; use the architecture dmpnn in three.")
        if self.architecture == "cnn" and self.attention:
            raise ValueError("attention needs the edges of a graph; use it with the architecture dmpnn.")
        if len(self.species) != 2 or len(set(self.species)) != 2 or not all(self.species):
            raise ValueError(f"species must be two names, of A and of B, found {self.species}.")
        if len(self.window) != 2 or not 0 < self.window[0] <= self.window[1] < inf:
            raise ValueError(f"window must be two lengths in σ, 0 < low <= high, found {self.window}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, found {self.dropout}.")
        self._check_counts("k", "hidden", "steps", "ffn_layers", "image_size", "pool", "dense")
        for name, pair in (("kernels", self.kernels), ("kernel_sizes", self.kernel_sizes)):
            if len(pair) != 2 or min(pair) < 1:
                raise ValueError(f"{name} must be two numbers of at least 1, found {pair}.")
        for name, value in (("pixels_per_sigma", self.pixels_per_sigma), ("radii", self.radii)):
            if not all(0 < one < inf for one in (value if isinstance(value, tuple) else (value,))):
                raise ValueError(f"{name} must be positive, found {value}.")
        shades = [*self.colors, self.background]
        if len(shades) != 3 or not all(
            len(shade) == 3 and all(0 <= part <= 1 for part in shade) for shade in shades
        ):
            raise ValueError("colors and background must be three numbers each, from 0 to 1.")
        if self.architecture == "cnn" and self.convolved_sizes[-1] < 1:
            raise ValueError(
                f"images of {self.image_size} pixels are too small for kernels of {self.kernel_sizes[0]} and "
                f"{self.kernel_sizes[1]} pixels with pooling over {self.pool}."
            )

    def codes_of(self, frame: Frame, b: str | tuple[str, ...] | None = None) -> NDArray[np.int32]:
        """(n_atoms,) 0 for A and 1 for B.

        b : names of the species B, all others are A; by default those of `species`

        Raises
        ------
        ValueError
            If `b` is left out and a particle is neither, or if one of the two kinds is missing.
        """
        from phaseseg.nn.mixtures import codes_of_mixture

        return codes_of_mixture(frame, self.species, b, "the network")

    @property
    def n_node_features(self) -> int:
        """Number of particle features: is A, is B, and coordinates if used."""
        return 2 + (self.dimensions if self.features == "coordinates" else 0)

    @property
    def n_edge_features(self) -> int:
        """Number of edge features: Gaussians of the length if used, and whether the edge is mutual."""
        return 1 + (len(LENGTH_CENTERS) if self.features == "distances" else 0)

    @property
    def convolved_sizes(self) -> tuple[int, int]:
        """Edges of the images after each convolution and pooling, pixels."""
        first, second = self.kernel_sizes
        size = (self.image_size - first + 1) // self.pool
        return size, (size - second + 1) // self.pool

    @property
    def image_edge(self) -> float:
        """Edge of the square that an image shows, σ."""
        return self.image_size / self.pixels_per_sigma

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; settings of the other architecture are left out."""
        other = _GRAPH_SETTINGS if self.architecture == "cnn" else _IMAGE_SETTINGS
        return {name: value for name, value in asdict(self).items() if name not in other}


# Training -----------------------------------------------------------------------------------------


def _left_out(name: str, of: Mapping[str, Any] = RECIPE) -> str:
    return f"{of[name]:g} by default"


@dataclass(frozen=True, kw_only=True)
class GlassSettings:
    """Train on runs in which a mixture of two kinds of particles was cooled from liquid to glass.

    Files are in reduced units, one run each. Learning curves are written next to the checkpoint as
    .curves.csv and .curves.png, the trials of a search as .search.csv.
    """

    glass_below: float = setting(help="Temperature at or below which a configuration is a glass.")
    liquid_above: float = setting(help="Temperature at or above which a configuration is a liquid.")
    temperature: str = setting("temperature", help="Key of the temperature in the comment line of a frame.")
    species: tuple[str, ...] = setting(GlassConfig.species, help="Names of A and B, separated by a comma.")
    types: tuple[str, ...] | None = setting(None, help="Species of the types 1, 2, ... of a dump: A,B.")
    names: tuple[str, ...] | None = setting(None, help="What names in the files stand for: Ni=A,P=B.")
    units: str | None = setting(
        None, help="lj if the files are in reduced units but do not say so.", choices=("lj",)
    )
    validation: tuple[Path, ...] = setting(
        (), help="Run for validation; may be repeated. By default folds of the runs.", multiple=True
    )
    folds: int = setting(
        FOLDS, help="Folds of the runs; each validates one member, which is trained on the others."
    )
    architecture: str = setting(
        RECIPE["architecture"], help="dmpnn (messages on graphs) | cnn (images, in two dimensions)"
    )
    attention: bool = setting(False, help="Weight edges by attention (dmpnn).")
    features: str | None = setting(
        None,
        help=f"distances | types | coordinates (as in the paper); {RECIPE['features']} by default (dmpnn).",
    )
    window: tuple[float, ...] | None = setting(
        None,
        help="Smallest and largest edge of the windows, sigma: LOW,HIGH; "
        f"{','.join(map(str, RECIPE['window']))} by default (dmpnn).",
        example="6,18",
    )
    k: int | None = setting(None, help=f"Nearest neighbors, {_left_out('k')} (dmpnn).", flag="-k")
    hidden: int | None = setting(None, help=f"Size of edge states, {_left_out('hidden')} (dmpnn).")
    steps: int | None = setting(None, help=f"Message-passing steps T, {_left_out('steps')} (dmpnn).")
    ffn_layers: int | None = setting(None, help=f"Layers of the head, {_left_out('ffn_layers')} (dmpnn).")
    pool: int | None = setting(None, help=f"Pooling, pixels, {_left_out('pool', IMAGE_RECIPE)} (cnn).")
    dense: int | None = setting(
        None, help=f"Units before the output, {_left_out('dense', IMAGE_RECIPE)} (cnn)."
    )
    dropout: float | None = setting(
        None, help=f"Fraction of units dropped in training, {_left_out('dropout')}."
    )
    learning_rate: float | None = setting(
        None, help=f"Initial learning rate of Adam, {_left_out('learning_rate', TRAINING)}."
    )
    search: int = setting(
        0,
        help="Trials per fold of a search for the settings not given, by nested cross-validation (TPE); "
        "0 for no search.",
    )
    search_epochs: int = setting(SEARCH_EPOCHS, help="Epochs per network in a search.")
    windows: int = setting(WINDOWS, help="Windows per epoch, half of them glass.")
    held_windows: int = setting(HELD_WINDOWS, help="Windows for validating a member.")
    epochs: int = setting(TRAINING["epochs"], help="Maximum number of epochs.")
    batch_atoms: int = setting(TRAINING["batch_atoms"], help="Particles per batch.")
    patience: int = setting(
        TRAINING["patience"], help="Epochs without a better validation loss before training stops."
    )
    seed: int = setting(0, help="Seed of the first member; the others use the next integers.")
    resume: bool = setting(False, help="Continue an interrupted training or search.")
    summary: str | None = setting(None, help="One line for the card.")

    def __post_init__(self) -> None:
        images = self.architecture == "cnn"
        recipe, other = (IMAGE_RECIPE, "dmpnn") if images else (RECIPE, "cnn")
        for name in (*_GRAPH_SETTINGS, "window") if images else ("pool", "dense"):
            if name in self.network:
                raise ValueError(f"{name} is a setting of the architecture {other}; leave it out.")
        GlassConfig(**{**recipe, **self.network})
        Settings(
            self.epochs, self.batch_atoms,
            TRAINING["learning_rate"] if self.learning_rate is None else self.learning_rate, (self.seed,),
            self.patience,
        )  # fmt: skip
        check_choices(self)
        if self.search < 0:
            raise ValueError(f"search must be a number of trials, found {self.search}.")
        if self.search and self.validation:
            raise ValueError("a search validates on folds of the runs; leave validation out.")

    @property
    def network(self) -> dict[str, Any]:
        """Given settings of `GlassConfig`; the others may be searched."""
        given = {name: getattr(self, name) for name in _NETWORK_SETTINGS}
        return {name: value for name, value in given.items() if value is not None and value is not False}

    def fit_options(self) -> dict[str, Any]:
        """The keywords of `fit_liquid_glass`."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        others = {name: value for name, value in given.items() if name not in _NETWORK_SETTINGS}
        return others | {
            "network": self.network, "units": self.units or "metal", "validation": self.validation or None,
        }  # fmt: skip
