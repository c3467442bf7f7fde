"""Files beside an image: its condition, the mask of what a model fills in, or the hints of its colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_deploy.images.any_image import AnyImage, as_image_file
from caflow_deploy.images.file_search import MAX_IMAGE_PIXELS, READABLE, images_below
from caflow_deploy.images.image_files import ImageFile, read_image
from caflow_deploy.images.masks import HALF, MaskMarks, read_hole
from caflow_deploy.images.pairs import FilePair
from caflow_runtime.bundle.manifest import Model
from caflow_runtime.completion.filling import has_patches, uses_patches
from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.image_arrays import Image, mismatch_of
from caflow_runtime.pipeline.named_inputs import prepare_condition, target_of
from caflow_runtime.pipeline.pipeline import Pipeline

WORDS = {"mask": "mask", "hints": "picture of hints"}
FILLED_SMOOTHLY = (
    "the hole was filled smoothly before the model refined it, which is worse for large holes: with the package "
    "PyPatchMatch, pip install pypatchmatch, it is filled with patches of the image"
)
HAS_COLOURS = "the image has colours, which the model does not see: it sees only brightness, and draws new colours"
VISIBLE_COLOUR = 4
"""Mean difference between the largest and the smallest channel of an image with visible colours."""
TOO_LARGE = (
    "the hole was filled smoothly before the model refined it, because it is too large to be filled with patches of "
    "the image, or too little of the image is known"
)


def find_input_files(name: str, place: Path, sources: Sequence[Path]) -> list[Path]:
    """Return the mask or hints of each source image.

    Arguments:
        name: "mask" or "hints", for messages.
        place: a file, which is for all images; or a folder with one file for each image, which has the name of its
            image and any image suffix.

    Raises:
        InputError: if the folder has no file for an image, or several.
        OSError: if the folder cannot be read.
    """
    if not place.is_dir():
        return [place] * len(sources)
    found: dict[str, list[Path]] = {}
    for path in images_below(place, READABLE):
        found.setdefault(path.stem, []).append(path)
    files = []
    for source in sources:
        named = found.get(source.stem, [])
        if len(named) != 1:
            what = " and ".join(map(str, named)) or "none"
            raise InputError(f"{source}: expected one {name} in {place}, named like {source.stem}.png; found {what}")
        files += named
    return files


def pair_of(image: Image, files: FilePair, model: Model, max_pixels: int = MAX_IMAGE_PIXELS) -> tuple[Image, Image]:
    """Return the target that an image shows, (H, W, 3) uint8, and its condition, (h, w, 3 or 4) uint8, which is read.

    For models that complete images, the file of the condition is a mask or hints, as large as the image.

    Arguments:
        image: (H, W, 3) uint8 RGB, the content of `files.target`.
        files: files of the target and the condition.
        max_pixels: largest number of pixels of the condition, as in `read_image`.

    Raises:
        UnreadableImage: if the condition cannot be read, or the sizes of the files do not fit together.
    """
    path, beside = map(Path, files)
    if model.inputs:
        name = model.inputs[0].name
        return target_of(model, image), prepare_condition(model, image, {name: input_of(name, beside, image)})
    condition = read_image(beside, max_pixels).rgb
    mismatch = mismatch_of(image, condition, model.scale)
    if mismatch is not None:
        raise UnreadableImage(path, mismatch)
    return image, condition


@dataclass(frozen=True)
class CompletedImage:
    """An image with its other inputs, and the results that a model's drawings make with it."""

    pipe: Pipeline
    given: ImageFile
    inputs: Mapping[str, NDArray[Any]]
    """Mask or hints by name, as in `Pipeline.prepare`."""

    @classmethod
    def read(
        cls, pipe: Pipeline, given: ImageFile, files: Mapping[str, AnyImage], marks: MaskMarks | None = None
    ) -> "CompletedImage":
        """Read an image's other inputs, such as the file of a mask, by name.

        Arguments:
            marks: what marks in a mask, as in `read_hole`.

        Raises:
            UnreadableImage: as from `input_of`.
        """
        return cls(pipe, given, {name: input_of(name, path, given.rgb, marks) for name, path in files.items()})

    @property
    def filled(self) -> float | None:
        """Share of the image that a mask marks, 0…1; None without a mask."""
        return float(self.inputs["mask"].mean()) if "mask" in self.inputs else None

    @cached_property
    def condition(self) -> Image:
        """Condition of the model, as `Pipeline.prepare` makes it."""
        return self.pipe.prepare(self.given.rgb, 0, **self.inputs)

    @property
    def is_changed(self) -> bool:
        """Whether results differ from what the model draws."""
        return bool(self.inputs) or self.pipe.manifest.model.color_space != "rgb"

    @property
    def warnings(self) -> list[str]:
        """Warnings about how the condition was made."""
        model = self.pipe.manifest.model
        if model.color_space != "rgb" and np.ptp(self.given.rgb, axis=2).mean() > VISIBLE_COLOUR:
            return [HAS_COLOURS]
        fills = any(port.preparation == "fill" for port in model.inputs)
        if not fills or uses_patches(self.inputs["mask"]):
            return []
        return [TOO_LARGE if has_patches() else FILLED_SMOOTHLY]

    def finished(self, drawn: NDArray[Any]) -> NDArray[Any]:
        """Return the results, (…, H, W, 3), that drawn images, (…, h, w, 3) uint8 or uint16, make with the image."""
        given = self.given.pixels(8 * drawn.itemsize)
        if "mask" in self.inputs:
            return np.where(self.inputs["mask"][..., None], drawn, given)
        single = [self.pipe.finish(given, one) for one in drawn.reshape(-1, *drawn.shape[-3:])]
        return np.stack(single).reshape(*drawn.shape[:-3], *single[0].shape)


def input_of(name: str, given: AnyImage, image: Image, marks: MaskMarks | None = None) -> NDArray[Any]:
    """Return another input of a model as `Pipeline.prepare` takes it: a mask, (H, W) bool, or hints, (H, W, 4) uint8.

    Arguments:
        name: "mask" or "hints".
        given: picture of the input, as large as the image; or a mask as (H, W) bool, True for what is to be filled.
        image: (H, W, 3) uint8 RGB.
        marks: what marks in a picture of a mask, as in `read_hole`.

    Raises:
        UnreadableImage: if it is not a readable image, differs in size from the image, or says nothing; or as from
            `read_hole`.
    """
    if isinstance(given, np.ndarray) and given.dtype == np.bool_:
        return given
    path = Path(given) if isinstance(given, str | PathLike) else Path(name)
    height, width = image.shape[:2]
    file = as_image_file(given, max(MAX_IMAGE_PIXELS, height * width), name)
    if file.rgb.shape != image.shape:
        found = f"{file.rgb.shape[1]}×{file.rgb.shape[0]}"
        raise UnreadableImage(path, f"the {WORDS[name]} must be as large as its image, {width}×{height}; got {found}")
    return read_hole(path, file, image, marks) if name == "mask" else _hints(path, file)


def _hints(path: Path, hints: ImageFile) -> Image:
    """Return a picture of hints, (H, W, 4) uint8 RGBA."""
    if hints.alpha is None or not (hints.alpha < HALF).any() or not (hints.alpha >= HALF).any():
        raise UnreadableImage(
            path,
            "a picture of hints must be opaque where there is a hint, and transparent elsewhere: draw dots or strokes "
            "of colour on a transparent layer, and export it as PNG",
        )
    return np.dstack([hints.rgb, hints.alpha])
