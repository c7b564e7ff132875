"""Settings of the networks of this family, and of their training; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, Literal, get_args

from phaseseg.nn.config import NetworkSettings
from phaseseg.training.settings import Settings, check_choices, setting

Update = Literal["edges-first", "parallel", "nodes-first"]
Turns = Literal["rotations", "axes", "none"]
Place = Literal["samples", "cage", "inherent", "thermal"]

SPECIES = ("A", "B")
"""Names of the two types in a checkpoint that does not state them."""
TRAINING: Mapping[str, Any] = {
    "folds": 5, "epochs": 100, "learning_rate": 1e-3, "optimizer": "adamw", "weight_decay": 1e-4,
    "warmup": 0.1, "clip": 1.0, "turns": "rotations", "batch_systems": 1,
}  # fmt: skip
"""Default training of the message-passing network; most are settings of `phaseseg.training.settings`."""


@dataclass(frozen=True)
class BapstConfig(NetworkSettings):
    """The network of Bapst et al. (DOI 10.1038/s41567-020-0842-8): encode, exchange messages, decode.

    An edge leads from each particle to each within the cutoff. Its input is the vector between them; that of
    a particle is its type. Both are encoded. In each round the states of edges and particles are renewed from
    the present and the encoded states. All layers but the last have rectifiers.

    Parameters
    ----------
    cutoff : σ; particles closer than this are joined
    self_edges : whether an edge also leads from each particle to itself; the published network has them
    type_input : "number" (0 for A, 1 for B, as published) or "one-hot"
    width : numbers in the state of an edge or particle
    hidden : units of the first layer of each of the small networks
    rounds : message-passing rounds
    own_weights : whether every round has weights of its own; published: the rounds share them
    update : what is renewed first in a round
        "edges-first" (published): edges see the old particles, particles the sum of the new edges;
        "parallel": edges see the old particles, particles the sums of the old and of the encoded edges;
        "nodes-first": particles as in "parallel", and edges see the new particles. In the last round of the
        last two, no edge is renewed, because nothing reads it.
    decoder_layers : layers of `width` units before the output
    outputs : number of targets

    Raises
    ------
    ValueError
        For a setting out of range.
    """

    cutoff: float = 2.0
    self_edges: bool = True
    type_input: Literal["number", "one-hot"] = "number"
    width: int = 64
    hidden: int = 64
    rounds: int = 7
    own_weights: bool = False
    update: Update = "edges-first"
    decoder_layers: int = 2
    outputs: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.cutoff <= 20:
            raise ValueError(f"cutoff must be a length between 0 and 20 σ, found {self.cutoff}.")
        for name, choices in (("type_input", ("number", "one-hot")), ("update", get_args(Update))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be {' or '.join(choices)}, found {getattr(self, name)!r}.")
        self._check_counts("width", "hidden", "rounds", "decoder_layers", "outputs")

    @property
    def n_type_inputs(self) -> int:
        """1 for the number of the type, 2 for one-hot types."""
        return 1 if self.type_input == "number" else 2

    @property
    def weights_of_round(self) -> tuple[int, ...]:
        """For each round the number of its weights."""
        return tuple(round_ if self.own_weights else 0 for round_ in range(self.rounds))

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """The first layer of an edge reads [edge, encoded edge, receiver, encoded, sender, encoded].

        That of a particle reads [sum of the edges, particle, encoded particle]; the sum of the old edges has
        the encoded ones next to it.
        """
        s, h = self.width, self.hidden
        shapes: dict[str, tuple[int, ...]] = {}

        def layers(name: str, *widths: int) -> None:
            for number, (inputs, outputs) in enumerate(pairwise(widths)):
                shapes[f"{name}.{number}.weight"] = (outputs, inputs)
                shapes[f"{name}.{number}.bias"] = (outputs,)

        layers("edge_encoder", 3, h, s)
        layers("node_encoder", self.n_type_inputs, h, s)
        for number in dict.fromkeys(self.weights_of_round):
            layers(f"edge_rounds.{number}", 6 * s, h, s)
            layers(f"node_rounds.{number}", (3 if self.update == "edges-first" else 4) * s, h, s)
        layers("decoder", *[s] * (self.decoder_layers + 1), self.outputs)
        return shapes


TER: Mapping[str, Any] = {
    "type_input": "one-hot", "own_weights": True, "update": "parallel", "decoder_layers": 1,
}  # fmt: skip
"""The network of the TER report of Blavo and Torres (2023): settings of `BapstConfig`."""


# Training -----------------------------------------------------------------------------------------

_NETWORK = tuple(name for name in BapstConfig.__dataclass_fields__ if name != "outputs")
_OWN = {
    ("bapst",): (
        *_NETWORK, "turns", "optimizer", "warmup", "clip", "batch_systems", "trained_types",
    ),
    ("net", "ridge"): ("positions", "temperature", "potential", "structures"),
    ("net",): ("repeats",),
    ("net", "bapst"): ("epochs", "learning_rate", "weight_decay"),
}  # fmt: skip
"""Settings that only these methods read."""
_LEARNING = ("epochs", "learning_rate", "optimizer", "weight_decay", "warmup", "clip")


def _left_out(name: str) -> str:
    value = BapstConfig.__dataclass_fields__[name].default
    return f"{value:g} by default" if not isinstance(value, str) else f"{value} by default"


@dataclass(frozen=True, kw_only=True)
class MobilitySettings:
    """Train on configurations of a mixture of A and B whose particles have measured propensities.

    Files are in reduced units. Every file is a system of its own: it validates the members that were not
    trained on it. Learning curves are written next to the checkpoint as .curves.csv and .curves.png.
    """

    method: str = setting(
        "net",
        help="net (graph filters on descriptors, with a ridge) | ridge | bapst (messages along edges, from "
        "thermal positions).",
        choices=("net", "ridge", "bapst"),
    )
    positions: str = setting(
        "samples",
        help="Where descriptors are computed: samples (mean over short cage runs) | cage (mean positions in "
        "them) | inherent (minimized) | thermal, or several of them as in samples+thermal (net, ridge).",
    )
    temperature: float | None = setting(
        None, help="Temperature of the cage runs; by default that in the file (net, ridge)."
    )
    potential: str | None = setting(
        None, help="Table of a Lennard-Jones mixture; Kob-Andersen by default (net, ridge)."
    )
    structures: str | None = setting(
        None, help="Folder that keeps minimized configurations and cages (net, ridge)."
    )
    repeats: int = setting(1, help="Networks for each fold, with other seeds (net).")
    target: tuple[str, ...] = setting(
        ("propensity",), help="Columns to learn, any numbers of particles, separated by commas."
    )
    times: tuple[float, ...] = setting(
        (), help="Times of the columns to learn; by default all that the files share.", example="13,130"
    )
    trained_types: tuple[str, ...] = setting(
        SPECIES, help="Types of particles that count in the loss: A or A,B."
    )
    species: tuple[str, ...] = setting(SPECIES, help="Names of A and B, separated by a comma.")
    types: tuple[str, ...] | None = setting(None, help="Species of the types 1, 2, ... of a dump: A,B.")
    names: tuple[str, ...] | None = setting(None, help="What names in the files stand for: Ni=A,P=B.")
    units: str | None = setting(
        None, help="lj if the files are in reduced units but do not say so.", choices=("lj",)
    )
    folds: int = setting(
        TRAINING["folds"], help="Folds of the systems; each validates one member, trained on the others."
    )
    cutoff: float = setting(BapstConfig.cutoff, help="Particles closer than this are joined, sigma.")
    self_edges: bool = setting(True, help="An edge also joins each particle to itself.")
    type_input: str = setting(
        BapstConfig.type_input, help="How particles read their type.", choices=("number", "one-hot")
    )
    width: int = setting(BapstConfig.width, help="Numbers in the state of an edge or particle.")
    hidden: int = setting(BapstConfig.hidden, help="Units of the first layer of each small network.")
    rounds: int = setting(BapstConfig.rounds, help="Message-passing rounds.")
    own_weights: bool = setting(
        True, help="Every round has weights of its own, and its units are normalized in training; the "
        "published network shares them, and only learns with small learning rates."
    )  # fmt: skip
    update: str = setting(
        BapstConfig.update,
        help="Order in a round: particles read the new edges (edges-first) or the old ones (parallel, "
        "nodes-first).",
        choices=get_args(Update),
    )
    decoder_layers: int = setting(BapstConfig.decoder_layers, help="Layers before the output.")
    turns: str = setting(
        TRAINING["turns"],
        help="How systems are turned at random in each step: rotations and reflections, or axes exchanged "
        "and reversed.",
        choices=get_args(Turns),
    )
    optimizer: str = setting(TRAINING["optimizer"], help="Optimizer.", choices=("adamw", "adam"))
    learning_rate: float | None = setting(
        None, help=f"Highest learning rate; {TRAINING['learning_rate']:g} by default (bapst), 0.003 (net)."
    )
    weight_decay: float | None = setting(None, help=f"Of adamw, {TRAINING['weight_decay']:g} by default.")
    warmup: float = setting(
        TRAINING["warmup"], help="Fraction of the epochs in which the learning rate rises; then it falls."
    )
    clip: float = setting(TRAINING["clip"], help="Largest norm of a gradient.")
    epochs: int | None = setting(
        None, help=f"Epochs; each shows every system once; {TRAINING['epochs']} by default (bapst), 30 (net)."
    )
    batch_systems: int = setting(TRAINING["batch_systems"], help="Systems per step.")
    seed: int = setting(0, help="Seed of the first member; the others use the next integers.")
    resume: bool = setting(False, help="Continue an interrupted training.")
    summary: str | None = setting(None, help="One line for the card.")

    def __post_init__(self) -> None:
        check_choices(self)
        places_of(self.positions)
        self._check_method()
        if len(self.species) != 2 or len(set(self.species)) != 2 or not all(self.species):
            raise ValueError(f"species must be two names, of A and of B, found {', '.join(self.species)}.")
        check_trained_types(self.trained_types)
        if not self.target or len(set(self.target)) != len(self.target):
            raise ValueError(f"target must be distinct columns, found {', '.join(self.target) or 'none'}.")
        if any(not time > 0 for time in self.times):
            raise ValueError(f"times must be positive, found {', '.join(map(str, self.times))}.")
        if self.batch_systems < 1:
            raise ValueError(f"batch_systems must be at least 1, found {self.batch_systems}.")
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1, found {self.repeats}.")
        if self.temperature is not None and not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be positive, found {self.temperature}.")
        BapstConfig(**self.network)
        self.training(self.folds)

    def _check_method(self) -> None:
        """Raise ValueError for a setting that the method does not read."""
        for methods, names in _OWN.items():
            if self.method in methods:
                continue
            changed = [f.name for f in fields(self) if f.name in names and getattr(self, f.name) != f.default]
            if changed:
                raise ValueError(
                    f"{changed[0]} is a setting of the method {' or '.join(methods)}, but the method is "
                    f"{self.method}. Leave it out or choose another method."
                )

    @property
    def network(self) -> dict[str, Any]:
        """Settings of `BapstConfig`."""
        return {name: getattr(self, name) for name in _NETWORK}

    def training(self, members: int) -> Settings:
        """The settings of the loop."""
        if members < 2:
            raise ValueError(f"folds must be at least 2, found {members}.")
        decay = self.weight_decay
        if decay is None:
            decay = TRAINING["weight_decay"] if self.optimizer == "adamw" else 0.0
        given = {name: getattr(self, name) for name in _LEARNING}
        learning = {k: TRAINING[k] if v is None else v for k, v in given.items()} | {"weight_decay": decay}
        return Settings(
            batch_atoms=1, seeds=tuple(range(self.seed, self.seed + members)), patience=learning["epochs"],
            keep="last", **learning,
        )  # fmt: skip

    def fit_options(self) -> dict[str, Any]:
        """The keywords of `fit`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def places_of(positions: str) -> tuple[Place, ...]:
    """The places that are joined by + in a text; ValueError for unknown ones or the same one twice."""
    places = get_args(Place)
    found = tuple(place for part in positions.split("+") for place in places if place == part.strip())
    if len(set(found)) != positions.count("+") + 1:
        raise ValueError(
            f"positions must be {', '.join(places[:-1])} or {places[-1]}, or several of them joined by +, "
            f"found {positions!r}."
        )
    return found


def check_trained_types(types: tuple[str, ...]) -> None:
    """Raise ValueError unless the types are A, B or both."""
    if not types or len(set(types)) != len(types) or not set(types) <= set(SPECIES):
        raise ValueError(f"trained_types must be A, B or A,B, found {', '.join(types) or 'none'}.")
