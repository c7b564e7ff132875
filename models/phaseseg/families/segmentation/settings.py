"""Settings of segmentation networks and their training, with defaults. NumPy is imported lazily."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from phaseseg.families.segmentation.rules import FixedRule, LabelRule
from phaseseg.nn.config import NetworkSettings
from phaseseg.training.settings import Settings, check_choices, setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from phaseseg.frame import Frame

Architecture = Literal["gat", "gcn", "graphconv"]
FeatureSet = Literal["counts", "densities"]
Loss = Literal["distance", "class"]

# Slope of the leaky rectifier in the attention, as in PyG and the paper's code.
ATTENTION_SLOPE = 0.2

CUTOFF = 6.0
"""Cutoff of the neighbors, Å."""
WIDTHS = (1.0, 2**0.5, 2.0)
"""Gaussian widths of the densities around an atom, Å."""
RECIPE: Mapping[str, Any] = {
    "architecture": "gat", "cutoff": CUTOFF, "features": "densities", "widths": WIDTHS, "hidden": 8,
    "heads": 2, "layers": 1, "readout": 32,
}  # fmt: skip
"""Default settings of `NetworkConfig`."""
TRAINING: Mapping[str, Any] = {
    "epochs": 60, "batch_atoms": 5200, "learning_rate": 5e-3, "seeds": (0, 1, 2), "patience": 30,
}  # fmt: skip
"""Default settings of `phaseseg.training.settings.Settings`."""
RECIPE_RULE = LabelRule(("Fe",), sigma=2.0).fixed()
"""Default label rule for training: smoother than that for display, because rough labels are hard to learn."""


# Network ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NetworkConfig(NetworkSettings):
    """A message-passing network over neighbors within `cutoff`, and its input features.

    Any number of species is allowed. The species enriched in the rich phase (`target`) and the species for
    the last of the "counts" features (`counter`) are settings.

    Parameters
    ----------
    species : names, in the order of the one-hot features
    target : names of the species enriched in the rich phase
    counter : names of the species counted by the last of the "counts" features
    architecture : "gat", "gcn" or "graphconv"
        Graph attention (DOI 10.48550/arXiv.1710.10903); symmetrically normalized convolution
        (DOI 10.48550/arXiv.1609.02907); sums over neighbors with a separate weight for the atom itself
        (DOI 10.1609/aaai.v33i01.33014602), which the authors of the paper released as their GCN.
    cutoff : Å
    features : "counts" or "densities"
        "counts" are the ten features of Shakya & Karki (DOI 10.5220/0013709400004000) for five species:
        one-hot species, number of target neighbors, mean and variance of their distances, their fraction of
        the neighbors, and number of counter neighbors. "densities" are the one-hot species and the densities
        of every species around the atom, smoothed with Gaussians of `widths`.
    widths : Å, Gaussian widths of "densities"
    hidden, heads : channels of a hidden layer per attention head, and number of heads
    layers : number of message-passing layers
    readout : hidden units of a readout network on [features, every layer] that returns the outputs
        0: the last layer returns the outputs, as in the paper.
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
        if self.architecture not in get_args(Architecture):
            raise ValueError(f"architecture must be gat, gcn or graphconv, found {self.architecture!r}.")
        if self.features not in get_args(FeatureSet):
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
        self._check_counts("hidden", "heads", "layers")
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
        """Names of the features in messages and tables."""
        target, counter = "+".join(self.target), "+".join(self.counter) or "counter"
        names = [f"is {name}" for name in self.species]
        if self.features == "densities":
            for width in self.widths:
                names += [f"density of {name} at width {width:.3g} Å" for name in self.species]
            return tuple(names)
        return (
            *names, f"number of {target} neighbors", f"mean distance of {target} neighbors",
            f"variance of the distance of {target} neighbors", f"{target} fraction of the neighbors",
            f"number of {counter} neighbors",
        )  # fmt: skip

    def codes_of(self, frame: Frame, what: str = "the network") -> NDArray[np.int32]:
        """Return the index of each atom's species in `species`, (n_atoms,).

        what : name of the network in messages

        Raises
        ------
        ValueError
            For a species unknown to the network.
        """
        import numpy as np

        place = [self.species.index(name) if name in self.species else -1 for name in frame.species_names]
        codes = np.asarray(np.array(place, dtype=np.int32)[frame.species])
        if codes.min(initial=0) < 0:
            unknown = ", ".join(frame.species_names[code] for code in np.unique(frame.species[codes < 0]))
            raise ValueError(
                f"{frame.error_prefix}{what} does not know the species {unknown}; it knows "
                f"{', '.join(self.species)}."
            )
        return codes

    @property
    def layer_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(inputs, heads, channels) of every message-passing layer."""
        widths = [(self.heads, self.hidden)] * self.layers
        if self.readout == 0:
            widths[-1] = 1, self.outputs
        inputs = [self.n_features, *(heads * channels for heads, channels in widths)]
        return tuple((n, *width) for n, width in zip(inputs, widths, strict=False))

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight of one member."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (inputs, heads, channels) in enumerate(self.layer_shapes, start=1):
            width = heads * channels
            own: dict[str, tuple[int, ...]] = {"weight": (width, inputs)}
            if self.architecture == "graphconv":
                own = {"weight_neighbors": (width, inputs), "weight_self": (width, inputs)}
            elif self.architecture == "gat":
                own |= {"attention_source": (heads, channels), "attention_target": (heads, channels)}
            own["bias"] = (width,)
            shapes |= {f"layer{layer}.{name}": shape for name, shape in own.items()}
        if self.readout:
            inputs = self.n_features + sum(heads * channels for _, heads, channels in self.layer_shapes)
            shapes |= {
                "readout1.weight": (self.readout, inputs), "readout1.bias": (self.readout,),
                "readout2.weight": (self.outputs, self.readout), "readout2.bias": (self.outputs,),
            }  # fmt: skip
        return shapes


@dataclass(frozen=True, eq=False)
class Scaling:
    """Scaling of raw features: clip to [low, high], then (x - center) / scale.

    Clipping prevents extrapolation beyond the training data. center, scale, low, high : (F,) float32
    """

    center: NDArray[np.float32]
    scale: NDArray[np.float32]
    low: NDArray[np.float32] = field(repr=False)
    high: NDArray[np.float32] = field(repr=False)

    @classmethod
    def of(cls, features: NDArray[np.floating[Any]]) -> Scaling:
        """Fit to the raw features (n, F) of a training set; constant features have the scale 1."""
        import numpy as np

        center, spread = features.mean(axis=0), features.std(axis=0)
        scale = np.where(spread > 1e-6 * np.maximum(np.abs(center), 1e-6), spread, 1.0)
        low, high = features.min(axis=0), features.max(axis=0)
        return cls(*(np.asarray(values, dtype=np.float32) for values in (center, scale, low, high)))

    def apply(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Scale raw features (n, F); returns float32."""
        import numpy as np

        clipped = np.clip(features, self.low, self.high)
        return np.asarray((clipped - self.center) / self.scale, dtype=np.float32)


# Training -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings:
    """Label trajectories of two liquids and train on them.

    Learning curves are written next to the checkpoint as .curves.csv and .curves.png.
    """

    validation: tuple[Path, ...] = setting(
        (), help="Trajectory for validation; may be repeated. Default: a part of DATA.", multiple=True
    )
    species: tuple[str, ...] = setting(
        RECIPE_RULE.species, help="Species enriched in the rich phase; separate several with commas."
    )
    counter: tuple[str, ...] = setting((), help="Species for the last of the counts features, such as Mg.")
    types: tuple[str, ...] | None = setting(
        None, help="Species of the types 1, 2, ... of a dump: Fe,Mg,Si,O,N."
    )
    names: tuple[str, ...] | None = setting(
        None, help="What atom names or species in the files stand for: MW=X,Me1=C."
    )
    architecture: str = setting(
        RECIPE["architecture"], help="gat | gcn | graphconv", choices=("gat", "gcn", "graphconv")
    )
    features: str = setting(
        RECIPE["features"], help="densities | counts (the paper's ten)", choices=("counts", "densities")
    )
    widths: tuple[float, ...] = setting(
        RECIPE["widths"], help="Gaussian widths of the densities, Å, separated by commas.", example="1,1.4,2"
    )
    hidden: int = setting(RECIPE["hidden"], help="Channels of a layer per head.")
    heads: int = setting(RECIPE["heads"], help="Heads of attention.")
    layers: int = setting(RECIPE["layers"], help="Message-passing layers.")
    readout: int = setting(
        RECIPE["readout"], help="Hidden units of the readout; 0: the last layer returns the outputs."
    )
    boundary_head: bool = setting(False, help="Learn the boundary as a third class.")
    boundary_width: float = setting(RECIPE_RULE.boundary_width, help="Thickness of the boundary, Å.")
    loss: str = setting("distance", help="distance | class", choices=("distance", "class"))
    sigma: float = setting(RECIPE_RULE.sigma, help="Width of the Gaussian of the labels, Å.")
    cutoff: float = setting(RECIPE["cutoff"], help="Cutoff of the neighbors, Å.")
    label_threshold: float | str = setting(
        RECIPE_RULE.threshold, help="steepest | two-means | midpoint (one cut for all frames) | a number"
    )
    min_volume: float = setting(RECIPE_RULE.min_volume, help="Smallest rich domain of the labels, Å^3.")
    epochs: int = setting(TRAINING["epochs"], help="Maximum number of passes over the data.")
    members: int = setting(len(TRAINING["seeds"]), help="Networks in the checkpoint, one seed each.")
    seed: int = setting(TRAINING["seeds"][0], help="Seed of the first member; others follow.")
    batch_atoms: int = setting(TRAINING["batch_atoms"], help="Number of atoms per batch.")
    learning_rate: float = setting(TRAINING["learning_rate"], help="Initial learning rate of Adam.")
    patience: int = setting(
        TRAINING["patience"], help="Epochs without a lower validation loss before a member stops."
    )
    every: int = setting(1, help="Take every n-th frame.")
    resume: bool = setting(False, help="Continue an interrupted training.")
    cache: Path | None = setting(None, help="Folder for cached labels; default: your cache folder.")
    summary: str | None = setting(None, help="One-line summary for the card.")

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("members", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}.")
        # Checks that are possible without the species of the data.
        NetworkConfig(("X", *self.counter), ("X",), **self.network)
        Settings(self.epochs, self.batch_atoms, self.learning_rate, self.seeds, self.patience)
        self.rule  # noqa: B018

    @property
    def rule(self) -> FixedRule:
        """The label rule."""
        return LabelRule(
            self.species, sigma=self.sigma, threshold=self.label_threshold,  # type: ignore[arg-type]
            boundary_width=self.boundary_width, min_volume=self.min_volume,
        ).fixed()  # fmt: skip

    @property
    def network(self) -> dict[str, Any]:
        """Settings of `NetworkConfig` except the species."""
        names = ("counter", *RECIPE)
        return {name: getattr(self, name) for name in names} | {"outputs": 3 if self.boundary_head else 2}

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.members))

    def fit_options(self) -> dict[str, Any]:
        """Return the keywords of `fit_segmentation`."""
        names = (
            "loss", "types", "names", "every", "epochs", "batch_atoms", "learning_rate", "patience", "seeds",
            "summary", "resume", "cache",
        )  # fmt: skip
        given = {name: getattr(self, name) for name in names}
        return given | {"rule": self.rule, "network": self.network, "validation": self.validation or None}
