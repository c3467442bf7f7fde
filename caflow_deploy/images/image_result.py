"""Result of one image: its pixels, how likely and how usual they are, and the files and pictures that show them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from caflow_deploy.images.image_files import WITH_16_BITS, ImageFile, encode_image, write_image
from caflow_deploy.images.model_choice import ModelChoice
from caflow_deploy.images.model_passes import Bits, OutputSpec
from caflow_deploy.images.result_pictures import pictures, sheet
from caflow_runtime.checks import check_integer, check_switch, checked_path, shown
from caflow_runtime.errors import InputError
from caflow_runtime.image_arrays import Image
from caflow_runtime.ood.typicality import Typicality
from caflow_runtime.pipeline.results import Best, Outcome, Samples

UNUSUAL = 0.01
"""Typicality below which a result is called unusual: about 1 % of good ones are."""


@dataclass(frozen=True, eq=False, repr=False)
class ImageResult:
    """Result of one image, and all that belongs to its file."""

    model: str
    """Name of the model, that of its bundle's folder. Likelihoods of different models cannot be compared."""
    given: ImageFile
    """The image, as it was read."""
    form: OutputSpec
    """Size and bits of the result."""
    outcome: Outcome | Literal["reduced"]
    """Where the pixels come from: a sample, or what takes its place. "reduced": the image, reduced without a model."""
    pictures: NDArray[Any]
    """What was drawn, best first, in the size of the model: (N, H, W, 3) uint8, or uint16 for 16 bits. N is 1 unless
    all samples were kept."""
    alpha: NDArray[np.uint8] | None
    """(H, W), in the size of the result; None for an opaque image."""
    is_grey: bool
    """Whether the image is grey, and its result as well."""
    drawn: Samples | Best | None = None
    """Samples with their likelihoods, with images of 8 bits; None if the image was only reduced."""
    shown: Image | None = None
    """Picture that a sheet shows before the samples, (h, w, 3) uint8: what the last pass of the model was given. None
    if the image was only reduced."""
    image_typicality: Typicality | None = None
    """Typicality of the image, as it is written, among true images; None if it was not judged."""
    choice: ModelChoice | None = None
    """Why this model was chosen; None if it was named."""
    degradation: dict[str, float] | None = None
    """What the model was told of how the image was degraded; None for models that are not told of it."""
    filled: float | None = None
    """Share of the image that the mask marked, 0…1; None without a mask."""
    warnings: tuple[str, ...] = ()
    """What a person should know: damage of the file, a hole that was filled smoothly, a sample that contradicts the
    image."""

    @property
    def is_sample(self) -> bool:
        """Whether the result is a sample of the model, not the image itself in another size."""
        return self.outcome not in ("bicubic", "reduced")

    def pixels(self, k: int = 0, bits: Bits | None = None) -> NDArray[Any]:
        """Return sample k in order of rank, in the size of the result: (H, W, 3) uint8, or uint16 for 16 bits.

        Arguments:
            bits: 8 rounds a result of 16 bits; None keeps its bits.

        Raises:
            InputError: if there is no such sample.
        """
        check_integer("k", k, 0, len(self.pictures) - 1)
        picture = self.pictures[k]
        if bits == 8 and picture.dtype == np.uint16:
            picture = np.asarray(cv2.convertScaleAbs(picture, alpha=1 / 257))
        return self.form.resampled(picture)

    @cached_property
    def image(self) -> PIL.Image.Image:
        """The result with 8 bits: mode L, LA, RGB or RGBA."""
        return self._shown(0)

    @property
    def samples(self) -> list[PIL.Image.Image]:
        """All samples that were kept, the best first, each like `image`."""
        return [self._shown(k) for k in range(len(self.pictures))]

    @property
    def log_likelihood(self) -> float | None:
        """Log-likelihood of the best sample in nats, as it was drawn; None if the result is no sample."""
        return self._of_best("log_likelihood")

    @property
    def bits_per_dim(self) -> float | None:
        """Negative log-likelihood in bits per dimension: lower is more likely. None if the result is no sample."""
        return self._of_best("bits_per_dim")

    @cached_property
    def typicality(self) -> Typicality | None:
        """How usual the best sample is among samples of its temperature, in scalars: `typicality.value` is 0…1.

        If the image was judged, it is how usual the image is among true images. None if this is not known.
        """
        if self.image_typicality is not None:
            return self.image_typicality.of(0)
        known = None if self.drawn is None else self.drawn.sample_typicality
        return None if known is None else known.of((0, 0) if isinstance(self.drawn, Samples) else 0)

    @property
    def is_unusual(self) -> bool:
        """Whether `typicality` is known, and below 0.01, so that a person should look at the result."""
        known = self.typicality
        return known is not None and bool(known.value < UNUSUAL)

    @property
    def uncertainty(self) -> NDArray[np.float32] | None:
        """Where the samples differ: their standard deviation in grey levels, (h, w, 3), in the size of the model.

        None if only the best of them was kept.
        """
        is_known = isinstance(self.drawn, Samples) and len(self.pictures) > 1
        return np.asarray(self.drawn.std[0]) if is_known and isinstance(self.drawn, Samples) else None

    @property
    def log_likelihood_map(self) -> NDArray[np.float32] | None:
        """Log-likelihood of each pixel of the best sample in nats, (h, w), in the size of the model.

        None if the result is no sample.
        """
        if self.drawn is None or not self.is_sample:
            return None
        found = self.drawn.log_likelihood_map[0]
        return np.asarray(found[0] if isinstance(self.drawn, Samples) else found)

    def save(
        self,
        path: str | PathLike[str],
        k: int = 0,
        *,
        force: bool = False,
        quality: int | None = None,
        metadata: bool = True,
    ) -> list[str]:
        """Write the result in the format of the path's suffix, with the alpha, bits and metadata of the image.

        Arguments:
            k: number of the sample, in order of rank. Others than the best exist only if all were kept.
            force: whether to replace an existing file.
            quality: 1…100, for JPEG and WebP, as in `write_image`.
            metadata: whether to copy all metadata of the image, not only its colour profile.

        Returns:
            Messages about metadata that the file cannot store.

        Raises:
            InputError: if the file exists, or its format cannot store transparency where the result has it.
            OSError: if the file cannot be written.
        """
        path = checked_path("path", path)
        if not force and path.exists():
            raise InputError(f"{path} already exists: give another name, or force=True to replace it")
        if not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}: make it first")
        return write_image(path, **self._written(path.suffix, k, metadata), quality=quality)

    def encoded(self, suffix: str = ".png", k: int = 0, *, quality: int | None = None, metadata: bool = True) -> bytes:
        """Return the contents of the file that `save` would write under a name with this suffix, such as ".jpg".

        Raises:
            InputError: if there is no such format, or it cannot store transparency where the result has it.
        """
        if not isinstance(suffix, str):
            raise InputError(f"suffix must be that of a file name, such as '.png'; got {shown(suffix)}")
        return encode_image(Path(f"image{suffix}"), **self._written(suffix, k, metadata), quality=quality)[0]

    def sheet(self) -> PIL.Image.Image:
        """Return a sheet of the image, all samples with their likelihoods, and where they differ.

        Raises:
            InputError: if only the best sample was kept.
        """
        if not isinstance(self.drawn, Samples) or self.shown is None:
            raise InputError("a sheet shows all samples, but only the best was kept: use OutputOptions(keep_all=True)")
        return PIL.Image.fromarray(sheet(self.shown, self.drawn))

    def maps(self) -> Iterator[tuple[str, Image, float, float]]:
        """Yield maps of where the result is unlikely, and of where the samples differ, as pictures.

        Yields: the same as `caflow_deploy.images.result_pictures.pictures`; nothing if the result is no sample.
        """
        if self.drawn is not None and self.is_sample:
            yield from pictures(self.drawn)

    def __repr__(self) -> str:
        """Return the line as Python shows it in lists and at its prompt, without arrays."""
        return f"<ImageResult: {self}>"

    def __str__(self) -> str:
        """Return a line for people: size, model and verdict."""
        size = f"{self.form.size.width}×{self.form.size.height}"
        if self.outcome == "reduced":
            return f"{size}, reduced without a model"
        if self.outcome == "bicubic":
            return f"{size}, enlarged bicubically, because all samples of {self.model} are untypical"
        filled = "" if self.filled is None else f", fills {100 * self.filled:.1f} % of the image"
        verdict = f", {self.outcome}" if self.outcome in ("accepted", "rejected") else ""
        if (known := self.typicality) is not None and not np.isnan(known.value):
            kind = "typicality" if self.image_typicality is None else "image typicality"
            verdict = f", {verdict_text(self.outcome, float(known.value), kind)}"
        return f"{size} of {self.model}{filled}{verdict}"

    def _repr_png_(self) -> bytes:
        """Return the picture that a notebook shows."""
        file = BytesIO()
        self.image.save(file, "PNG")
        return file.getvalue()

    def _shown(self, k: int) -> PIL.Image.Image:
        pixels = self.pixels(k, bits=8)
        if self.is_grey:
            pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
        return PIL.Image.fromarray(pixels if self.alpha is None else np.dstack([pixels, self.alpha]))

    def _written(self, suffix: str, k: int, metadata: bool) -> dict[str, Any]:
        """Return arguments of `write_image` for sample k."""
        check_switch("metadata", metadata)
        bits: Bits | None = None if suffix.lower() in WITH_16_BITS else 8
        copied = self.given.metadata if metadata else self.given.metadata.colours()
        return {"rgb": self.pixels(k, bits), "alpha": self.alpha, "is_grey": self.is_grey, "metadata": copied}

    def _of_best(self, name: str) -> float | None:
        if self.drawn is None or not self.is_sample:
            return None
        return float(getattr(self.drawn, name).reshape(-1)[0])


def verdict_text(outcome: str, value: float, kind: str = "typicality") -> str:
    """Return a verdict as one word with its number, such as "usual (typicality 0.776)".

    Arguments:
        outcome: that of the result; "accepted" and "rejected" are verdicts themselves.
        value: the typicality, 0…1.
        kind: which typicality it is.
    """
    word = outcome if outcome in ("accepted", "rejected") else "unusual" if value < UNUSUAL else "usual"
    return f"{word} ({kind} {value:.3f})"
