"""What the model returns: likelihoods, encoded conditions and samples.

Shapes: B is the batch size, n the number of levels, H×W the array size of targets.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from caflow_training.dequantization import MIDPOINT


@dataclass(frozen=True)
class LogLikelihood:
    """log p(target | condition) in parts (eq. 9). Each part is (B, n), in nats; level 0 is the coarsest.

    The terms of dequantization and pixel scaling are part of `target_log_det` of the finest level.
    """

    prior: Tensor
    """Log-density of the noise, log N(`z[i, j]`; 0, I), at each level j, summed over i."""
    conditional_log_det: Tensor
    """Log-determinants of the blocks `g[i][j]` at each level j, summed over i."""
    target_log_det: Tensor
    """Log-determinant of the target flow at each level."""

    @property
    def per_level(self) -> Tensor:
        """Sum of the three parts for each level, (B, n) in nats."""
        return self.prior + self.conditional_log_det + self.target_log_det

    @property
    def total(self) -> Tensor:
        """Sum over all parts and levels, (B,) in nats."""
        return self.per_level.sum(1)


@dataclass(frozen=True)
class Encoded:
    """Results that depend on the condition alone. They are computed once per image, for any number of samples.

    (B, C_j, H_j, W_j) is the shape of the latents of level j of n: see `ImageFlow`.
    """

    prepared: Tensor
    """Condition at the target's size, (B, 3, H, W), integer values 0…255."""
    latents: list[Tensor]
    """Latents D of the condition, (B, C_j, H_j, W_j) of each level j, the coarsest first."""
    log_prob: Tensor
    """log p(condition), (B,) in nats."""
    mean: Tensor | None
    """Prediction that is subtracted from the target, (B, 3, H, W) in pixel values; None without `residual`. If the task
    knows values of the target, it has three more channels, 1 for known values and otherwise 0: see `KnownPixels`."""
    features: list[Tensor] | None
    """Features of the mean network, (B, F, H_j/2, W_j/2) of each level j, the coarsest first; F is `mean_features`.
    None if the model has none."""

    @property
    def known(self) -> Tensor | None:
        """Which values of the targets are known, (B, 3, H, W) bool; None if none is."""
        return None if self.mean is None or self.mean.shape[1] == 3 else self.mean[:, 3:] > 0

    def completed(self, images: Tensor) -> Tensor:
        """Return images, (B, 3, H, W) continuous pixel values, with all known values in their places."""
        known = self.known
        return images if known is None else torch.where(known, self.prepared + MIDPOINT, images)

    def rows(self, index: Tensor) -> "Encoded":
        """Return the conditions selected by `index`, (R,) int64, in the order of `index`."""
        return Encoded(
            self.prepared[index],
            [latent[index] for latent in self.latents],
            self.log_prob[index],
            None if self.mean is None else self.mean[index],
            None if self.features is None else [level[index] for level in self.features],
        )


@dataclass(frozen=True)
class Sample:
    """Samples of a batch, with their log-likelihoods."""

    images: Tensor
    """Continuous pixel values, (B, 3, H, W), usually in [0, 256). Rounded down and limited to 0…255, they are
    an image in uint8."""
    log_likelihood: LogLikelihood
    """log p(target | condition) at these continuous pixel values, computed while sampling."""


def bits_per_dim(log_likelihood: Tensor, dims: int) -> Tensor:
    """Return −log-likelihood / (dims · ln 2) of densities on the scale of pixel values 0…256.

    Arguments:
        log_likelihood: in nats, any shape.
        dims: number of values of one image.
    """
    return -log_likelihood / (dims * math.log(2))


def to_integers(images: Tensor) -> Tensor:
    """Convert continuous pixel values to uint8: round down, and clamp to 0…255.

    Values are rounded down because the interval [w, w + 1) stands for w.
    """
    return images.floor().clamp(0, 255).to(torch.uint8)
