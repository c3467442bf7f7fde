"""Options for drawing samples: how many samples, from which noise, and how the best one is chosen."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, TypedDict

import numpy as np
from msgspec import Meta, structs

from caflow_runtime.bundle.manifest import DEFAULT_SAMPLING, Manifest
from caflow_runtime.checks import LARGEST_WORD, MAX_SAMPLES, is_integer, is_number, is_real, shown
from caflow_runtime.errors import InputError
from caflow_runtime.option_fields import Options, fields_of

Rank = Literal["likelihood", "consistency", "typical"]
"""Ranking of samples: by their likelihood, by their consistency with the image, or by how typical their bits per
dimension are."""
Judge = Literal["sample", "image"]
"""Typicality that decides about rejection: that of the drawn sample, or that of the image as it is written."""
Otherwise = Literal["keep", "bicubic", "drop"]
"""Result if all samples are rejected: the best rejected sample, the bicubically enlarged input, or an error."""
USUAL_SAMPLES = 10
"""Number of samples of an image where nothing else is said."""
LARGEST_WITH_USUAL = 2**18
"""Largest number of pixels of a result of which so many samples are drawn by default."""
Temperature = Annotated[float, Meta(ge=0)] | Sequence[float]
"""One temperature τ for all levels, or one for each level, the coarsest first."""


class DrawFields(TypedDict, total=False):
    """Fields of `DrawOptions` as keyword arguments."""

    n: int | None
    temperature: Temperature | None
    seed: int
    frame: int
    rank: Rank | None
    keep: Sequence[int] | None
    consistent: bool
    min_typicality: float
    redraws: int
    otherwise: Otherwise
    judge: Judge


class DrawOptions(Options, frozen=True):
    """How samples are drawn, and which of them is the result.

    Raises:
        InputError: if a value is not valid.
    """

    n: Annotated[int, Meta(ge=1, le=MAX_SAMPLES)] | None = None
    """Number of samples of each image; 1 is fastest. The best one is the result. By default 10 for results of up to
    512×512 pixels, fewer for larger ones, 1 from 2 megapixels on, and 1 where the temperature is 0. What shows all
    samples, such as a sheet, makes it 10."""
    temperature: Temperature | None = None
    """Spread of the samples, the factor τ on the noise. 0: all samples are the same smooth result. 1: the distribution
    that the model learned. In Python also one number for each level, the coarsest first. By default what the model
    names as best: 0.8 for x4-photo, 0.5 for x4-real, and 0 for the other built-in models."""
    seed: Annotated[int, Meta(ge=0, le=LARGEST_WORD)] = 0
    """Seed of the random numbers. The same seed gives the same samples again."""
    frame: Annotated[int, Meta(ge=0, le=LARGEST_WORD)] = 0
    """Number of a frame. Each frame has other random numbers."""
    rank: Rank | None = None
    """Criterion for the best sample. likelihood: the most likely sample, as in the paper. consistency: the sample that
    is closest to the input after it is degraded again. typical: the sample whose likelihood is closest to the typical
    one at each level, which requires a model that is calibrated for this `temperature`, as the built-in models are. By
    default what the model names as best: likelihood for the built-in models."""
    keep: Sequence[int] | None = None
    """Progressive best-of-N: the number of samples that run at each level, beginning with `n`. After each level, only
    the most likely samples continue. The result is approximate: a dropped sample might have been the best."""
    consistent: bool = False
    """For models that enlarge: change the best sample so that it matches the input when it is down-sampled, as far as
    values in 0…255 allow. It is ranked before the change and scored again after it."""
    min_typicality: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Reject samples and video frames whose typicality is below this number between 0 and 1. About this fraction of
    good ones is rejected by mistake; 0.01 is a common choice. 0 rejects nothing. This requires a model that is
    calibrated for this `temperature`, as the built-in models are."""
    redraws: Annotated[int, Meta(ge=0, le=MAX_SAMPLES)] = 20
    """With `min_typicality`: largest number of samples to draw in place of rejected ones, for each image. Video frames
    are not drawn again."""
    otherwise: Otherwise = "keep"
    """With `min_typicality`: what becomes of an image whose samples are all rejected, or of a rejected video frame.
    keep: the best rejected sample or the frame, and a report that it is rejected. bicubic: the bicubically enlarged
    input. drop: no result, which is the error `Untypical` in Python."""
    judge: Judge = "sample"
    """Typicality that is reported and that `min_typicality` checks. sample: how usual the sample is, as drawn, among
    samples of the same temperature; this takes no extra time. image: how usual the image is, as written, among true
    images, as caflow filter computes it; samples are scored again for it, in the order of rank, which takes time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature is not None:
            structs.force_setattr(self, "temperature", _temperature(self.temperature))
        structs.force_setattr(self, "keep", _keep(self.keep, self.number))
        if self.keep is not None and self.rank not in ("likelihood", None):
            raise InputError(f"keep drops samples by likelihood, so rank must be 'likelihood'; got {self.rank!r}")
        if self.keep is not None and self.rejects:
            raise InputError("keep drops samples before they can be judged: use either keep or min_typicality")
        for name in ("redraws", "otherwise"):
            if not self.rejects and getattr(self, name) != fields_of(DrawOptions)[name].default:
                raise InputError(f"{name} is about samples that min_typicality rejects: also give min_typicality")

    def for_model(self, manifest: Manifest) -> Self:
        """Return the options for a model: with its own temperature and ranking where they are None.

        Raises:
            InputError: if the model does not support the options.
        """
        own = manifest.model.sampling
        temperature = own.temperature if self.temperature is None else self.temperature
        rank = self.rank or (own.rank if self.keep is None else "likelihood")
        found = structs.replace(self, temperature=temperature, rank=rank)
        found.check_fits(manifest)
        return found

    def for_result(self, pixels: int, shows_all: bool = False) -> Self:
        """Return the options for a result of this size: with a number of samples where it is not given.

        Many samples show where a result is uncertain, and let others take the place of rejected ones. The likeliest of
        them is no better than the first: with x4-photo, LPIPS of the best of 1, 2, 5 and 10 is 0.185, 0.186, 0.186 and
        0.186 (60 photographs), and ten samples take five times as long as one.

        Arguments:
            pixels: number of pixels of the result, as the model makes it.
            shows_all: whether all samples are wanted, not only the best one.
        """
        if self.n is not None:
            return self
        if self.temperature is not None and not any(np.atleast_1d(self.temperature)):
            return structs.replace(self, n=1)  # all samples are the same
        few = min(USUAL_SAMPLES, max(1, USUAL_SAMPLES * LARGEST_WITH_USUAL // max(1, pixels)))
        return structs.replace(self, n=USUAL_SAMPLES if shows_all else few)

    @property
    def number(self) -> int:
        """Number of samples of each image, where no size of a result decides."""
        return USUAL_SAMPLES if self.n is None else self.n

    @property
    def rejects(self) -> bool:
        """Whether samples are judged and rejected."""
        return self.min_typicality > 0

    @property
    def rejects_images(self) -> bool:
        """Whether images are judged and rejected, as they are written."""
        return self.rejects and self.judge == "image"

    @property
    def needs_calibration(self) -> bool:
        """Whether drawing requires the calibration of a bundle."""
        return self.rank == "typical" or self.rejects

    @property
    def most_samples(self) -> int:
        """Largest number of samples that are drawn for an image."""
        return self.number + (self.redraws if self.rejects else 0)

    def temperatures(self, levels: int) -> list[float]:
        """Return the temperature of each level, the coarsest first. Without a model, it is the default one."""
        own = DEFAULT_SAMPLING.temperature if self.temperature is None else self.temperature
        return list(own) if isinstance(own, Sequence) else [own] * levels

    def check_fits(self, manifest: Manifest) -> None:
        """Check that a model supports these settings.

        Raises:
            InputError: if the model does not support them.
        """
        levels = manifest.model.levels
        if isinstance(self.temperature, tuple) and len(self.temperature) != levels:
            raise InputError(
                f"temperature must be one number, or {levels} numbers, one per level; got {shown(self.temperature)}"
            )
        if self.keep is not None and len(self.keep) != levels:
            raise InputError(
                f"keep must have {levels} numbers of samples, one per level, from n = {self.number} down, such as "
                f"{_kept(self.number, levels)}; got {shown(self.keep)}"
            )
        if self.rank == "consistency" and not manifest.has_consistency:
            raise InputError(f"rank 'consistency': {manifest.without_consistency}")
        if self.consistent and not (manifest.has_consistency and manifest.model.scale > 1):
            raise InputError(f"consistent results require a model that enlarges; got the task {manifest.model.task!r}")


def options_with(options: DrawOptions | None, fields: DrawFields) -> DrawOptions:
    """Return options with some other fields. None is the default of all.

    Raises:
        InputError: if `options` is of another type, or a field is not valid.
    """
    if options is not None and not isinstance(options, DrawOptions):
        raise InputError(f"options must be DrawOptions, such as DrawOptions(n=4); got {shown(options)}")
    return structs.replace(options or DrawOptions(), **fields)


def _temperature(given: Any) -> Temperature:
    found = given.tolist() if isinstance(given, np.ndarray) else given
    values = list(found) if isinstance(found, list | tuple) else [found]
    if not values or not all(is_real(value) for value in values):
        raise InputError(f"temperature must be a number, or one number per level; got {shown(given)}")
    if not all(is_number(value) and value >= 0 for value in values):
        raise InputError(f"temperature must be finite and at least 0; got {shown(given)}")
    numbers = tuple(float(value) for value in values)
    return numbers[0] if len(numbers) == 1 else numbers


def _kept(n: int, levels: int) -> tuple[int, ...]:
    """Return an example of `keep`."""
    return (n, *[max(1, n // 2)] * (levels - 1))


def _keep(given: Any, n: int) -> tuple[int, ...] | None:
    if given is None:
        return None
    counts = list(given) if isinstance(given, Sequence) else [given]
    falls = all(is_integer(k) and k >= 1 for k in counts) and counts == sorted(counts, reverse=True)
    if not falls or not counts or counts[0] != n:
        raise InputError(
            f"keep must be numbers of samples, one per level, from n = {n} down, such as {_kept(n, len(counts))}; got "
            f"{shown(given)}"
        )
    return tuple(int(k) for k in counts)
