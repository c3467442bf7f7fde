"""The two models that a server offers for each bundle.

The bundle NAME.caflow is served as NAME, which draws the best of n samples of each image, and as NAME-score, which
computes the likelihood of existing targets and accepts or rejects them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caflow_deploy.serving.request import (
    Answer,
    Checked,
    ScoreParameters,
    Tensors,
    TensorSpec,
)
from caflow_deploy.serving.service import Service, are_late, count_images, count_pixels
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.image_arrays import Image, check_pairs
from caflow_runtime.ood.typicality import Typicality, check_alpha
from caflow_runtime.ood.typicality_records import TypicalityModel
from caflow_runtime.pipeline.results import Likelihood, Stack
from caflow_runtime.pipeline.sampling import check_calibrated, sample_best

ALPHA = 0.01
SCORE = "-score"
"""Suffix of the name of the model that scores targets."""


class Sampler(Service):
    """Model that draws the best of n samples of each image."""

    suffix = ""
    inputs = (TensorSpec("image", "UINT8", (-1, -1, -1, 3)),)
    outputs = (
        TensorSpec("image", "UINT8", (-1, -1, -1, 3)),
        TensorSpec("log_likelihood", "FP64", (-1, 1)),
        TensorSpec("bits_per_dim", "FP64", (-1, 1)),
        TensorSpec("sample_typicality", "FP64", (-1, 1)),
        TensorSpec("image_typicality", "FP64", (-1, 1)),
        TensorSpec("sample", "INT64", (-1, 1)),
        TensorSpec("outcome", "BYTES", (-1, 1)),
    )
    parameters = DrawOptions

    def _typicality_model(self) -> TypicalityModel | None:
        return self.pipe.likelihoods.typicality_model(self.pipe.manifest.model.sampling.temperature)

    def _for_images(self, parameters: DrawOptions, images: list[list[Image]]) -> DrawOptions:
        largest = max(image.shape[0] * image.shape[1] for image in images[0])
        found = parameters.for_model(self.pipe.manifest)
        return found.for_result(self.pipe.manifest.model.scale**2 * largest)

    def _check(self, parameters: DrawOptions, images: list[list[Image]]) -> None:
        config = parameters.for_model(self.pipe.manifest)
        if config.needs_calibration:
            check_calibrated(self.pipe.calibration, config)

    def _pixels(self, parameters: DrawOptions, images: list[list[Image]]) -> int:
        return count_pixels(images[0], self.pipe.manifest.model.scale) * parameters.most_samples

    def _compute(self, parameters: DrawOptions, requests: list[Checked]) -> list[Answer]:
        config = parameters.for_model(self.pipe.manifest)
        images = [image for one in requests for image in one.images[0]]
        with self._stage("sample"):
            best = sample_best(self.pipe, images, config)
        counts, late = count_images(requests), are_late(requests)
        if self.metrics:
            is_late, own = np.repeat(late, counts), self.pipe.manifest.model.sampling.temperature
            is_usual = config.temperature == own
            self.metrics.observe_best(best, config, is_usual, is_late)
        tensors = {
            **likelihoods(best),
            "sample_typicality": typicalities(best.sample_typicality, len(images)),
            "sample": best.sample[:, None],
            "outcome": np.array([outcome.encode() for outcome in best.outcome], object)[:, None],
        }
        return self._timely(split(best.images, tensors, counts), late)


class Scorer(Service):
    """Model that computes the likelihood of targets, and accepts or rejects them."""

    suffix = SCORE
    inputs = (TensorSpec("target", "UINT8", (-1, -1, -1, 3)), TensorSpec("condition", "UINT8", (-1, -1, -1, 3)))
    outputs = (
        TensorSpec("log_likelihood", "FP64", (-1, 1)),
        TensorSpec("bits_per_dim", "FP64", (-1, 1)),
        TensorSpec("image_typicality", "FP64", (-1, 1)),
        TensorSpec("accepted", "BOOL", (-1, 1)),
    )
    parameters = ScoreParameters

    def _typicality_model(self) -> TypicalityModel | None:
        return self.pipe.likelihoods.typicality_model(None)

    def _check(self, parameters: ScoreParameters, images: list[list[Image]]) -> None:
        if parameters.min_typicality:
            check_alpha(parameters.min_typicality, self.pipe.calibration.truth)
        check_pairs(images[0], images[1], self.pipe.manifest.model.scale)

    def _pixels(self, parameters: ScoreParameters, images: list[list[Image]]) -> int:
        return count_pixels(images[0], 1)

    def _compute(self, parameters: ScoreParameters, requests: list[Checked]) -> list[Answer]:
        targets, conditions = ([image for one in requests for image in one.images[k]] for k in range(2))
        with self._stage("score"):
            score = self.pipe.score(targets, conditions)
        alpha = ALPHA if parameters.min_typicality is None else parameters.min_typicality
        verdicts = score.verdicts(alpha)
        accepted = np.ones(len(targets), bool) if verdicts is None else verdicts == "accepted"
        counts, late = count_images(requests), are_late(requests)
        if self.metrics:
            self.metrics.observe_score(score, alpha, np.repeat(late, counts))
        tensors = {**likelihoods(score), "accepted": accepted[:, None]}
        return self._timely(split(None, tensors, counts), late)


SERVICES: tuple[type[Service], ...] = (Sampler, Scorer)


def likelihoods(found: Likelihood) -> Tensors:
    """Return the tensors of likelihoods, (B, 1) each; NaN where there is no value."""
    return {
        "log_likelihood": found.log_likelihood[:, None],
        "bits_per_dim": found.bits_per_dim[:, None],
        "image_typicality": typicalities(found.image_typicality, len(found.dims)),
    }


def typicalities(known: Typicality | None, count: int) -> NDArray[np.float64]:
    """Return typicalities as (B, 1); NaN where they are unknown."""
    return np.full((count, 1), np.nan) if known is None else known.value[:, None]


def split(images: Stack | None, tensors: Tensors, counts: Sequence[int]) -> list[Tensors]:
    """Split results into the tensors of each request.

    Arguments:
        counts: number of images of each request. The images of one request have one size.
    """
    ends = np.cumsum(counts)
    parts = []
    for end, count in zip(ends, counts, strict=True):
        part = {name: tensor[end - count : end] for name, tensor in tensors.items()}
        parts.append(part if images is None else {"image": np.stack(list(images[end - count : end])), **part})
    return parts
