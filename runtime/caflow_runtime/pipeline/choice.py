"""Choice among an image's samples: items become candidates, which are ranked, and rejected if they are untypical."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.batching.draw_options import DrawOptions, Rank
from caflow_runtime.batching.pixels import Pixels, deep_integers
from caflow_runtime.batching.tile_merging import BatchItem
from caflow_runtime.bundle.known_values import VALUES, dims_of
from caflow_runtime.bundle.manifest import Model
from caflow_runtime.errors import NotFinite
from caflow_runtime.image_arrays import Image
from caflow_runtime.ood.consistency import Consistency, enlarge, enlarge_image
from caflow_runtime.ood.typicality import Floats, Typicality, covariates, distance_of, typicality
from caflow_runtime.ood.typicality_records import TypicalityModel
from caflow_runtime.pipeline.results import REJECTED, Outcome, bits_per_dim

TRY_LOWER = "the model's inverse diverges there: use a lower temperature"


class Untypical(NotFinite):
    """All samples of an image were rejected."""

    def __init__(self, why: str, choice: "Choice", name: str = "") -> None:
        """Keep the choice with the error.

        Arguments:
            why: the message without the name of the image.
            choice: the state of the choice, with the number of rejected samples and the best one.
            name: name of the image; the message begins with it.
        """
        super().__init__(f"{name}: {why}" if name else why)
        self.why = why
        """The message without the name of the image."""
        self.choice = choice


@dataclass(frozen=True)
class Ranking:
    """Criterion by which the samples of an image are ranked."""

    model: Model
    rank: Rank | None
    consistency: Consistency
    typicality_model: TypicalityModel | None
    """Describes typical samples; required for the rank "typical"."""

    def value(self, item: BatchItem, condition: Image) -> float:
        """Return the value by which an item is ranked, higher for better ones; −∞ for an item that is not finite."""
        if not is_finite(item):
            return -np.inf
        if self.rank == "consistency":
            return self.consistency.psnr(finite_pixels(item).integers(), condition)
        if self.rank == "typical":
            assert self.typicality_model is not None
            bits, given = bits_of(item, condition, self.model), covariates(condition, self.model)
            if np.isfinite(far := distance_of(self.typicality_model, bits, given)):
                return -far
        return float(item.per_level.sum())  # also where there is no typicality model for images of this kind


@dataclass(frozen=True)
class Candidate:
    """Sample that may be returned."""

    value: float
    """Value by which the sample is ranked; higher is better."""
    item: BatchItem
    """Row of the sample, without its pixels."""
    image: Image
    """(H, W, 3) uint8 RGB."""
    consistency: float | None
    """Consistency with the condition in dB; None if it was not computed."""
    scored: BatchItem | None = None
    """Row with the likelihood of `image`; None if the image was not scored."""
    outcome: Outcome = "unjudged"
    """Whether the sample was accepted, rejected, or not judged."""
    deep: NDArray[np.uint16] | None = None
    """The image with 16 bits, (H, W, 3) RGB; None if it was not requested."""


@dataclass
class Choice:
    """State of the choice among one image's samples."""

    accepted: int = 0
    """Number of samples that were accepted, or need not be judged."""
    rejected: int = 0
    """Number of samples that were rejected, or that are not finite, or whose image has no finite likelihood."""
    best: Candidate | None = None
    """Best of the samples that were accepted, or need not be judged."""
    best_rejected: Candidate | None = None
    """Best of the rejected samples, while no sample is accepted."""
    waiting: list[Candidate] = field(default_factory=list)
    """Samples whose images are not judged yet."""
    bits_per_dim: list[float] = field(default_factory=list)
    """Bits per dimension of each finite sample."""


class Chooser:
    """Chooses the best sample of each condition from items that are passed in any order."""

    def __init__(
        self,
        model: Model,
        consistency: Consistency,
        conditions: list[Image],
        config: DrawOptions,
        typicality_model: TypicalityModel | None,
        is_deep: bool = False,
    ) -> None:
        """Prepare to choose among the samples of several images.

        Arguments:
            typicality_model: describes typical samples, if the draw needs it.
            is_deep: whether candidates also have images with 16 bits.
        """
        self.model = model
        self.consistency = consistency
        self.conditions = conditions
        self.config = config
        self.typicality_model = typicality_model
        self.is_deep = is_deep
        self.ranking = Ranking(model, config.rank, consistency, typicality_model)
        self.choices = [Choice() for _ in conditions]

    def value(self, item: BatchItem) -> float:
        """Return the value by which an item is ranked."""
        return self.ranking.value(item, self.conditions[item.image])

    def take(self, item: BatchItem) -> None:
        """Take one more sample of `conditions[item.image]`."""
        choice, condition = self.choices[item.image], self.conditions[item.image]
        value = self.value(item)
        if value > -np.inf:
            choice.bits_per_dim.append(float(bits_of(item, condition, self.model).sum()))
        outcome = self._outcome(item, condition, value)
        if self.config.rejects_images and value > -np.inf:
            choice.waiting.append(self.candidate(value, item))
        elif outcome == "rejected":
            self._reject(choice, value, partial(self.candidate, value, item))
        else:
            choice.accepted += 1
            if choice.best is None or value > choice.best.value:
                choice.best = replace(self.candidate(value, item), outcome=outcome)

    def take_waiting(self, k: int) -> list[Candidate]:
        """Return the samples of `conditions[k]` whose images are not judged yet, in the order of their rank.

        They do not wait any longer.
        """
        waiting, self.choices[k].waiting = self.choices[k].waiting, []
        return sorted(waiting, key=lambda one: -one.value)

    def judge_image(self, k: int, candidate: Candidate, item: BatchItem, found: Typicality | None) -> bool:
        """Judge the image of a candidate for `conditions[k]`. Return whether it is accepted, and so the result.

        Arguments:
            item: item with the likelihood of the image.
            found: typicality of the image, if it is known.
        """
        choice = self.choices[k]
        if not item.has_finite_likelihood:  # then the image is no result, as if the sample itself were not finite
            choice.rejected += 1
            return False
        if found is not None and found.value[0] < self.config.min_typicality:
            self._reject(choice, candidate.value, partial(replace, candidate, scored=item))
            return False
        is_judged = found is not None and bool(found.is_judged[0])
        choice.accepted += 1
        choice.best = replace(candidate, scored=item, outcome="accepted" if is_judged else "unjudged")
        return True

    def _reject(self, choice: Choice, value: float, candidate: Callable[[], Candidate]) -> None:
        """Count a rejected sample. Keep it if it is the best rejected one and no sample is accepted."""
        choice.rejected += 1
        worst = -np.inf if choice.best_rejected is None else choice.best_rejected.value
        if choice.best is None and value > worst:
            choice.best_rejected = replace(candidate(), outcome="rejected")

    def candidate(self, value: float, item: BatchItem) -> Candidate:
        """Return an item as a candidate with integer pixels.

        The candidate does not keep the continuous pixels, because they are a view of the pixels of the whole run.
        """
        condition, pixels = self.conditions[item.image], finite_pixels(item)
        if self.config.consistent:
            values = self.consistency.projected(pixels.floats(), condition)
            image = np.asarray(np.rint(values), np.uint8)
            deep = deep_integers(values + np.float32(0.5)) if self.is_deep else None
            measured = self.consistency.psnr(image, condition)
        else:
            image, measured = pixels.integers(), value
            deep = deep_integers(pixels.floats()) if self.is_deep else None
        known = measured if self.config.consistent or self.config.rank == "consistency" else None
        return Candidate(value, replace(item, pixels=None), image, known, deep=deep)

    def chosen(self, k: int) -> Candidate:
        """Return the result for an image.

        Raises:
            NotFinite: if no sample is finite.
            Untypical: if all samples are rejected and `otherwise` is "drop".
        """
        choice, otherwise = self.choices[k], self.config.otherwise
        if choice.best is not None:
            return choice.best
        if otherwise == "bicubic":
            return self._enlarged(k)
        if choice.best_rejected is None:
            raise NotFinite(f"no sample of images[{k}] is finite: {TRY_LOWER}")
        if otherwise == "drop":
            why = f"all {choice.rejected} samples are untypical, with a typicality below {self.config.min_typicality:g}"
            raise Untypical(why, choice, f"images[{k}]")
        return choice.best_rejected

    def _enlarged(self, k: int) -> Candidate:
        """Return the enlarged input, without a likelihood, in place of a sample."""
        condition = self.conditions[k][..., :VALUES]  # without a mask
        image, deep = enlarge_image(condition, self.model.scale), None
        if self.is_deep:
            values = enlarge(condition.astype(np.float32), self.model.scale)
            deep = deep_integers(values + np.float32(0.5))
        measured = self.config.consistent or self.config.rank == "consistency"
        known = self.consistency.psnr(image, self.conditions[k]) if measured else None
        item = BatchItem(k, REJECTED, None, [], np.full(self.model.levels, np.nan))
        return Candidate(-np.inf, item, image, known, outcome="bicubic", deep=deep)

    def _outcome(self, item: BatchItem, condition: Image, value: float) -> Outcome:
        """Return the outcome of a sample. "rejected" is the final one only if no sample is accepted.

        Of rejected samples, only the best one may be returned.
        """
        if value == -np.inf:
            return "rejected"
        if not self.config.rejects or self.config.rejects_images or self.typicality_model is None:
            return "unjudged"
        bits = bits_of(item, condition, self.model)[None]
        found = typicality(self.typicality_model, bits, covariates(condition, self.model)[None])
        if not found.is_judged[0]:
            return "unjudged"
        return "accepted" if found.accept(self.config.min_typicality)[0] else "rejected"


def bits_of(item: BatchItem, condition: Image, model: Model) -> Floats:
    """Return the bits per dimension of each level, (n,)."""
    return bits_per_dim(item.per_level, dims_of(condition, model))


def is_finite(item: BatchItem) -> bool:
    """Return whether an item has pixels, and whether all its pixels and likelihoods are finite."""
    return item.pixels is not None and item.has_finite_likelihood and item.pixels.is_finite


def finite_pixels(item: BatchItem) -> Pixels:
    """Return the pixels of an item.

    Raises:
        NotFinite: if its pixels or likelihoods are not finite.
    """
    if not is_finite(item) or item.pixels is None:
        raise NotFinite(f"sample {item.sample} of images[{item.image}] is not finite: {TRY_LOWER}")
    return item.pixels
