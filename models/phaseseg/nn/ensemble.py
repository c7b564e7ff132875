"""The networks of a checkpoint as torch modules on a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import nn

from phaseseg.nn.config import NetworkSettings
from phaseseg.nn.model import check_weights
from phaseseg.nn.ops import tensor_of

Network = TypeVar("Network", bound=nn.Module)


def loaded(network: Network, weights: Mapping[str, NDArray[Any]]) -> Network:
    """The network with these weights, ready to be evaluated."""
    network.load_state_dict({name: tensor_of(values) for name, values in weights.items()})
    return network.eval()


class Ensemble:
    """Base of the networks of a family in torch; a subclass is called as its twin in `inference`.

    `build` gives a network of a configuration.

    Parameters
    ----------
    config : of the networks
    members : weights of each member by name
    device : "cpu" or "cuda"

    Raises
    ------
    ValueError
        A weight is missing, unknown, of another shape or not finite; there are no members.
    RuntimeError
        If there is no GPU that torch can use.
    """

    build: Callable[[Any], nn.Module]

    def __init__(
        self,
        config: NetworkSettings,
        members: Sequence[Mapping[str, NDArray[Any]]],
        *,
        device: str = "cpu",
    ) -> None:
        check_weights(config.weight_shapes(), members)
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("device cuda: torch finds no GPU on this machine; choose the device cpu.")
        self.device = torch.device(device)
        self.networks = [loaded(self.build(config), weights).to(self.device) for weights in members]

    def outputs(self, *inputs: Any) -> list[Any]:
        """What every member gives, without gradients."""
        with torch.inference_mode():
            return [network(*inputs) for network in self.networks]
