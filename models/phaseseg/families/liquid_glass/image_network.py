"""The convolutional network on pictures of configurations in PyTorch, as training needs it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from phaseseg.families.liquid_glass.settings import GlassConfig

_MOMENTUM = 0.1  # weight of a batch in the running statistics
_LEAST_VARIANCE = 1e-5


class ImageNetwork(nn.Module):
    """Two convolutions without padding, each with a rectifier and averages over squares, then dense layers.

    With `pool=1`, `normalize=False` and images of 250 pixels it is the network of
    DOI 10.48550/arXiv.1909.04648 but for its two outputs, of which a softmax sees the difference alone: here
    there is one, the logit of glass. Its state has the names of `config.weight_shapes()`.

    Averages and normalization are what makes it learn from some thousand images. With the greatest value of a
    square instead, or without normalization, it hardly told T = 0.44 from 0.05 after as many.
    """

    def __init__(self, config: GlassConfig) -> None:
        super().__init__()
        self.config = config
        one, two = config.kernels
        first, second = config.kernel_sizes
        flat = config.weight_shapes()["dense.weight"][1]
        self.convolution1 = nn.Conv2d(3, one, first)
        self.convolution2 = nn.Conv2d(one, two, second)
        self.dense = nn.Linear(flat, config.dense)
        self.output = nn.Linear(config.dense, 1)
        for layer in (self.convolution1, self.convolution2, self.dense):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        for i, channels in enumerate((one, two, flat), start=1):
            made: nn.Module = Normalization(channels) if config.normalize else nn.Identity()
            self.add_module(f"normalization{i}", made)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n,) of images (n, 3, size, size)."""
        config, x = self.config, images
        for i in (1, 2):
            x = self.get_submodule(f"convolution{i}")(x)
            x = functional.relu(self.get_submodule(f"normalization{i}")(x))
            x = functional.avg_pool2d(x, config.pool)
        x = x.mean(dim=(2, 3)) if config.global_average else x.flatten(1)
        x = functional.relu(self.dense(self.get_submodule("normalization3")(x)))
        x = functional.dropout(x, config.dropout, self.training)
        logits: Tensor = self.output(x)[:, 0]
        return logits


class Normalization(nn.Module):
    """Brings every channel to mean 0 and variance 1: of the batch in training, else of what training saw.

    DOI 10.48550/arXiv.1502.03167, without a scale and shift of its own, which the next layer has anyway. It
    keeps running averages of the mean and of one over the deviation. A batch of one is not normalized by
    itself where it has one number to a channel.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`x` is (n, channels) or (n, channels, rows, columns)."""
        if self.training and x.numel() > x.shape[1]:
            with torch.no_grad():
                variance, mean = torch.var_mean(x, dim=[k for k in range(x.ndim) if k != 1], correction=0)
                self.mean.lerp_(mean, _MOMENTUM)
                self.scale.lerp_((variance + _LEAST_VARIANCE).rsqrt(), _MOMENTUM)
            return functional.batch_norm(x, None, None, training=True, eps=_LEAST_VARIANCE)
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return (x - self.mean.view(shape)) * self.scale.view(shape)
