"""Requests with an image file in place of tensors: what they may ask, and how much work they are."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import msgspec
from msgspec import Meta

from caflow_deploy.images.image_headers import claimed_size
from caflow_deploy.images.masks import MaskMarks
from caflow_deploy.images.model_passes import OutputSpec
from caflow_deploy.serving.failures import TooLarge
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.bundle.builtin import DEFAULT, DEFAULT_FOR_INPUTS, find_bundle, names
from caflow_runtime.bundle.manifest import Manifest
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.errors import InputError
from caflow_runtime.option_fields import Options, checked, fields_of
from caflow_runtime.sizes import Size

Task = Literal["enlarge", "inpaint", "colorize"]
BESIDE: dict[Task, Literal["mask", "hints"]] = {"inpaint": "mask", "colorize": "hints"}
"""Name of the file that a task takes beside the image."""
LARGEST_SCALE = 4
"""Results may have, over all samples, as many pixels as the largest image has when it is enlarged by this factor."""
BYTES_PER_PIXEL, SPARE_BYTES = 8, 2**20
"""Largest size of a body: bytes per pixel of the largest image, as of RGBA with 16 bits, and of everything else."""

SEVERAL_VALUES = ("keep", "fit")
"""Fields of options that are not parameters of a request, because they take several values."""

Given = TypeVar("Given", bound=Options)


class ImageParameters(Options, frozen=True):
    """Parameters of a request with an image file, besides the fields of `DrawOptions` and `Size`."""

    model: str | None = None
    """Name of a built-in model, or of the bundle that is served. By default the image decides what enlarges it."""
    mask_marks: MaskMarks | None = None
    """What marks the pixels to fill in a mask, as in `RunOptions`."""
    format: Literal["source", "png", "jpg", "webp", "tiff", "bmp"] = "source"
    """Format of the result. source is that of the image, or PNG if that format can only be read."""
    quality: Annotated[int, Meta(ge=1, le=100)] | None = None
    """Quality of JPEG and WebP files; by default 95."""


@dataclass(frozen=True)
class ImageRequest:
    """A request with an image file, whose parameters are checked."""

    task: Task
    files: Mapping[str, bytes]
    """Contents of the image, and of the mask or hints, by these names."""
    parameters: ImageParameters
    options: DrawOptions
    size: Size | None
    model: Path | None
    """Folder of the bundle; None lets the image decide."""
    pixels: int
    """Number of pixels of the result, over all samples, as the model makes it."""
    until: float = 0.0
    """Deadline by `time.monotonic`, in seconds. After it, the client no longer waits for the answer."""


@dataclass(frozen=True)
class ImageAnswer:
    """An image file, and the headers that describe it."""

    contents: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class ImageModels:
    """The models that answer requests with image files."""

    folders: Mapping[str, Path]
    """Folders of all bundles, by name."""
    of_tasks: Mapping[Task, str]
    """Names of the models of tasks. Where there is none, the image decides."""
    max_pixels: int
    """Largest number of pixels of an image."""

    @classmethod
    def of(cls, bundle: Path, is_chosen: bool, max_pixels: int) -> Self:
        """Return the built-in models and the bundle that is served.

        Arguments:
            is_chosen: whether the bundle was named, so that it does its task in place of the built-in model.
        """
        of_tasks: dict[Task, str] = {task: DEFAULT_FOR_INPUTS[name] for task, name in BESIDE.items()}
        if is_chosen and (task := _task_of(read_manifest(bundle))):
            of_tasks[task] = bundle.stem
        return cls({name: find_bundle(name) for name in names()} | {bundle.stem: bundle}, of_tasks, max_pixels)

    @property
    def most_bytes(self) -> int:
        """Largest size of a body, in bytes."""
        return BYTES_PER_PIXEL * self.max_pixels + SPARE_BYTES

    def request(self, task: Task, files: Mapping[str, bytes], given: Mapping[str, str]) -> ImageRequest:
        """Return the request of a client.

        Arguments:
            files: contents of files, by name.
            given: parameters by name, as they arrived.

        Raises:
            InputError: if a file is missing, or a parameter is not valid.
            TooLarge: if the image, or the results over all samples, have too many pixels.
        """
        _check_names(task, files, given)
        parameters, options = _options(ImageParameters, given), _options(DrawOptions, given)
        size = _options(Size, given) if given.keys() & set(Size.__struct_fields__) else None
        name = parameters.model or self.of_tasks.get(task)
        if name is not None and name not in self.folders:
            raise InputError(f"model must be one of {', '.join(sorted(self.folders))}; got {name!r}")
        folder = None if name is None else self.folders[name]
        for file, contents in files.items():
            self._check_size(file, contents)
        pixels = self._pixels(files["image"], read_manifest(folder or self.folders[DEFAULT]), options, size)
        return ImageRequest(task, files, parameters, options, size, folder, pixels)

    def _check_size(self, name: str, contents: bytes) -> None:
        claimed = claimed_size(contents)
        if claimed is not None and claimed.width * claimed.height > self.max_pixels:
            raise TooLarge(
                f"the {name} must have at most {self.max_pixels / 1e6:.4g} megapixels; got "
                f"{claimed.width}×{claimed.height}: reduce it, or raise --max-image-pixels of the server"
            )

    def _pixels(self, image: bytes, manifest: Manifest, options: DrawOptions, size: Size | None) -> int:
        """Return the number of pixels of the results, over all samples; 0 for an image that cannot be read."""
        claimed = claimed_size(image)
        if claimed is None:
            return 0
        drawn = OutputSpec.of(size, (claimed.height, claimed.width), manifest.model.scale, 8).drawn
        pixels = drawn * options.for_model(manifest).for_result(drawn).most_samples
        if pixels > (most := LARGEST_SCALE**2 * self.max_pixels):
            raise TooLarge(
                f"results must have at most {most / 1e6:.4g} megapixels over all samples; got {pixels / 1e6:.6g}: ask "
                "for fewer samples (n, redraws) or a smaller size"
            )
        return pixels


def _check_names(task: Task, files: Mapping[str, bytes], given: Mapping[str, str]) -> None:
    """Refuse files and parameters that a task does not have, and a request without a file that it needs."""
    takes = ["image", *([BESIDE[task]] if task in BESIDE else [])]
    for name in files:
        if name not in takes:
            raise InputError(f"/{task} takes the files {' and '.join(takes)}; got one that is named {name!r}")
    for name in takes:
        if name != "hints" and not files.get(name):
            raise InputError(
                f"/{task} needs the file {name}: send the contents of an image file as the body, or a form, such as "
                f"curl -F image=@photo.jpg{f' -F {BESIDE[task]}=@{BESIDE[task]}.png' if task in BESIDE else ''}"
            )
    known = [*ImageParameters.__struct_fields__, *DrawOptions.__struct_fields__]
    known += Size.__struct_fields__ if task == "enlarge" else ()
    known = [name for name in known if name not in SEVERAL_VALUES and (name != "mask_marks" or "mask" in takes)]
    if unknown := sorted(given.keys() - set(known)):
        raise InputError(f"/{task} has the parameters {', '.join(known)}; got {unknown[0]!r}")


def _options(kind: type[Given], given: Mapping[str, str]) -> Given:
    """Return the fields of options among parameters.

    Raises:
        InputError: if a value is not valid.
    """
    own = {name: value for name, value in given.items() if name in kind.__struct_fields__}
    try:
        return _converted(own, kind)
    except msgspec.ValidationError as error:
        for name, value in own.items():  # find the wrong one, because `checked` names the parameter and its range
            with suppress(msgspec.ValidationError):
                _converted({name: value}, kind)
                continue
            checked(fields_of(kind)[name], value)
        raise InputError(f"parameters: {error}") from None


def _converted(own: Mapping[str, str], kind: type[Given]) -> Given:
    return msgspec.convert(own, kind, strict=False)  # not strict, because all values are texts


def _task_of(manifest: Manifest) -> Task | None:
    """Return the task of a model; None for those without an address."""
    inputs = [port.name for port in manifest.model.inputs]
    beside = next((task for task, name in BESIDE.items() if name in inputs), None)
    return beside or ("enlarge" if manifest.model.scale > 1 else None)
