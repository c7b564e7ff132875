"""The convolutional network on pictures of configurations in PyTorch, as training needs it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from phaseseg.families.liquid_glass.config import GlassConfig


class ImageNetwork(nn.Module):
    """Two convolutions without padding, each with a rectifier and pooling, then two dense layers.

    With `pool=1` and images of 250 pixels it is the network of DOI 10.48550/arXiv.1909.04648 but for its two
    outputs, of which a softmax sees the difference alone: here there is one, the logit of glass. Its state
    has the names of `config.weight_shapes()`.
    """

    def __init__(self, config: GlassConfig) -> None:
        super().__init__()
        self.config = config
        one, two = config.kernels
        first, second = config.kernel_sizes
        self.convolution1 = nn.Conv2d(3, one, first)
        self.convolution2 = nn.Conv2d(one, two, second)
        flat = config.weight_shapes()["dense.weight"][1]
        self.dense = nn.Linear(flat, config.dense)
        self.output = nn.Linear(config.dense, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n,) of images (n, 3, size, size)."""
        config, x = self.config, images
        for convolution in (self.convolution1, self.convolution2):
            # The order of the two is of no account for the greatest value, and pooled ones are fewer.
            x = functional.relu(functional.max_pool2d(convolution(x), config.pool))
        x = x.mean(dim=(2, 3)) if config.global_average else x.flatten(1)
        x = functional.relu(self.dense(x))
        x = functional.dropout(x, config.dropout, self.training)
        logits: Tensor = self.output(x)[:, 0]
        return logits
