"""Reading and writing of image files.

`read_image` returns 8-bit RGB for the model, and the properties that the result should keep: alpha, grey, bit depth and
metadata. `write_image` writes a result. If writing fails, an existing file stays unchanged.
"""

import math
import stat
import struct
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_deploy.images import heif
from caflow_deploy.images.decoding import DAMAGED, decode, within_limits
from caflow_deploy.images.file_search import MAX_IMAGE_PIXELS, READ_ONLY, SUFFIXES, VIDEO_SUFFIXES
from caflow_deploy.images.image_headers import GIF_START, ImageHeader, is_cut_off, is_heif, read_header
from caflow_deploy.images.matte import matted
from caflow_deploy.images.metadata import Metadata
from caflow_deploy.images.metadata_files import encode, read_metadata
from caflow_runtime.checks import check_integer, check_switch, checked_path, shown
from caflow_runtime.errors import InputError, TooLarge, UnreadableImage
from caflow_runtime.file_io.atomic_files import write_atomically
from caflow_runtime.image_arrays import Image

WITH_ALPHA = {".png", ".tif", ".tiff", ".webp"}
WITH_16_BITS = {".png", ".tif", ".tiff"}
DEFAULT_QUALITY = 95
UNDECODABLE = (cv2.error, EOFError, OSError, RuntimeError, SyntaxError, ValueError, struct.error)
"""Exceptions that the decoders raise for damaged files."""
MAX_BYTES_PER_PIXEL, MAX_OTHER_BYTES = 32, 2**26
"""Limits of a file's size: bytes per pixel, for four uncompressed 64-bit channels; and bytes of everything else."""
BITS = {"uint8": 8, "uint16": 16, "float32": 32, "float64": 64}
"""Bits per channel of each supported dtype."""


@dataclass(frozen=True)
class ImageFile:
    """Image that was read from a file."""

    rgb: Image
    """(H, W, 3) uint8. A grey image has three equal channels, more than 8 bits are rounded to 8, and fully transparent
    pixels have the colour of the nearest pixel whose alpha is at least 128."""
    alpha: NDArray[np.uint8] | None = None
    """(H, W); None if the file has no alpha."""
    is_grey: bool = False
    """Whether the file has no colours."""
    bits: int = 8
    """Bits per channel in the file."""
    metadata: Metadata = field(default_factory=Metadata)
    """Metadata as in the file. Its orientation is unchanged, although the pixels are already rotated."""
    is_damaged: bool = False
    """Whether the decoder found damage, so that parts of the picture may be wrong. Only known of JPEG files."""
    warnings: tuple[str, ...] = ()
    """Messages about damage and malformed metadata of the file, and about alpha that was not read."""
    deep: NDArray[np.uint16] | None = None
    """(H, W, 3) RGB with 16 bits, if the file has more than 8 bits per channel; else None."""
    quantization: tuple[int, ...] | None = None
    """Quantization table of luminance if the file is a JPEG: 64 integers, row by row; else None."""

    def pixels(self, bits: int) -> NDArray[Any]:
        """Return RGB pixels, (H, W, 3): uint8 for 8 bits, uint16 for 16 bits."""
        if bits == 8:
            return self.rgb
        return self.rgb * np.uint16(257) if self.deep is None else self.deep


def read_image(path: str | Path, max_pixels: int = MAX_IMAGE_PIXELS) -> ImageFile:
    """Read an image file: grey, RGB or RGBA, rotated as its EXIF orientation says.

    Supported are files of 8 or 16 bits per channel, and TIFF files of floating-point values 0…1. A truncated file is
    refused. Damage in the middle of a JPEG is a warning; of other formats it is found only if the decoder reports it.

    Arguments:
        max_pixels: largest number of pixels, by default 2²⁸, or 268 megapixels. A file whose header claims more is
            refused before it is decoded. OpenCV's own limit is 2³⁰.

    Raises:
        InputError: if `path` is not a path, or `max_pixels` is not a positive integer.
        UnreadableImage: if the file is missing, truncated, too large, of an unsupported type, or contains several
            pictures.
    """
    check_integer("max_pixels", max_pixels, 1)
    path = checked_path("path", path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise UnreadableImage(path, "expected an image, the file is a video; enlarge it with caflow video")
    return decode_image(_contents(path, MAX_BYTES_PER_PIXEL * int(max_pixels) + MAX_OTHER_BYTES), path, max_pixels)


def decode_image(contents: bytes, path: Path, max_pixels: int = MAX_IMAGE_PIXELS) -> ImageFile:
    """Return the image that the contents of a file show, as `read_image` does.

    Arguments:
        path: name of the file in messages.

    Raises:
        UnreadableImage: as from `read_image`.
    """
    if is_cut_off(contents):
        raise UnreadableImage(path, "the JPEG file is truncated; copy or export it again")
    header = read_header(contents)
    if header is None:
        raise _undecodable(path, contents)
    check_pixels(path, *header.size, max_pixels)
    try:
        pixels, header, wrong = within_limits(partial(_decoded, header=header), contents, header)
    except InputError as error:
        raise UnreadableImage(path, str(error)) from None
    except UNDECODABLE:
        raise _undecodable(path, contents) from None
    if header.pictures > 1:
        raise _several(path)
    metadata, malformed = read_metadata(contents, header)
    return replace(
        _image_file(path, pixels),
        metadata=metadata,
        is_damaged=DAMAGED in wrong,
        warnings=(*malformed, *wrong),
        quantization=header.quantization or None,
    )


def check_pixels(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Check that an image does not have too many pixels.

    Raises:
        TooLarge: if it has.
    """
    if width * height > max_pixels:
        raise TooLarge(
            path,
            f"{width}×{height} are {width * height / 1e6:.4g} megapixels, more than the limit of "
            f"{max_pixels / 1e6:.4g} (max_pixels); reduce the image, or raise the limit",
        )


def _decoded(contents: bytes, header: ImageHeader) -> tuple[NDArray[Any], ImageHeader, list[str]]:
    """Return the pixels, the header, and messages about what was not read."""
    if is_heif(contents):
        return *heif.decode(contents, header), []
    pixels, wrong = decode(contents, header)
    return pixels, header, wrong


def image_of_array(pixels: NDArray[Any]) -> ImageFile:
    """Return an array as an image: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA, of uint8 or uint16.

    Raises:
        InputError: if the array has another shape or type.
    """
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if not is_image or pixels.dtype not in (np.uint8, np.uint16) or not pixels.size:
        raise InputError(
            "image: expected an array (H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16; got "
            f"{pixels.dtype} of shape {pixels.shape}"
        )
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return _image_file(Path("array"), pixels)


def write_image(
    path: str | Path,
    rgb: Image | NDArray[np.uint16],
    alpha: NDArray[np.uint8] | None = None,
    is_grey: bool = False,
    metadata: Metadata | None = None,
    quality: int | None = None,
) -> list[str]:
    """Write an image file in the format of its suffix.

    Arguments:
        rgb: (H, W, 3) uint8 or uint16. A uint16 image is written with 16 bits per channel.
        alpha: (H, W); None for an opaque image.
        is_grey: whether to convert the image to grey.
        metadata: metadata of the source image, to copy to the file; None to copy none.
        quality: 1…100, for JPEG and WebP. None means 95. A WebP file of quality 100 is lossless.

    Returns:
        Messages about metadata that the file cannot store.

    Raises:
        InputError: if an argument is not valid, the suffix is not supported, or its format does not support alpha or 16
            bits.
        OSError: if the file cannot be written.
    """
    path = checked_path("path", path)
    contents, left_out = encode_image(path, rgb, alpha, is_grey, metadata, quality)
    try:
        write_atomically(path, contents)
    except ValueError as error:  # The name is not valid for any file.
        raise InputError(f"{str(path)!r} cannot be written: {error}") from None
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror}") from None
    return left_out


def encode_image(
    path: Path,
    rgb: Image | NDArray[np.uint16],
    alpha: NDArray[np.uint8] | None = None,
    is_grey: bool = False,
    metadata: Metadata | None = None,
    quality: int | None = None,
) -> tuple[bytes, list[str]]:
    """Return the contents of an image file, and messages about metadata that it cannot store.

    The arguments and errors are those of `write_image`. Nothing is written; only the suffix of the path counts.
    """
    _check_pixels(rgb, alpha)
    check_switch("is_grey", is_grey)
    if quality is not None:
        check_integer("quality", quality, 1, 100)
    if metadata is not None and not isinstance(metadata, Metadata):
        raise InputError(f"metadata must be a Metadata or None; got {shown(metadata)}")
    check_suffix(path, alpha is not None, 8 * rgb.itemsize)
    pixels: NDArray[Any] = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) if is_grey else rgb
    if alpha is not None:
        colours = np.repeat(pixels[..., None], 3, 2) if is_grey else pixels
        pixels = np.dstack([colours, alpha if rgb.dtype == np.uint8 else alpha * np.uint16(257)])
    try:
        return encode(path.suffix.lower(), pixels, metadata or Metadata(), quality or DEFAULT_QUALITY)
    except (cv2.error, OSError, ValueError) as error:
        raise OSError(f"{path}: the image cannot be encoded: {error}") from None


def _check_pixels(rgb: Any, alpha: Any) -> None:
    """Check the pixels of an image that is to be written.

    Raises:
        InputError: if the check fails.
    """
    if not (isinstance(rgb, np.ndarray) and rgb.dtype in (np.uint8, np.uint16) and rgb.ndim == 3 and rgb.size):
        raise InputError(f"rgb must be an array (H, W, 3) of uint8 or uint16; got {shown(rgb)}")
    if alpha is not None and not (isinstance(alpha, np.ndarray) and alpha.dtype == np.uint8):
        raise InputError(f"alpha must be an array (H, W) of uint8; got {shown(alpha)}")
    if rgb.shape[2] != 3 or (alpha is not None and alpha.shape != rgb.shape[:2]):
        shapes = f"{rgb.shape} and {alpha.shape}" if alpha is not None else str(rgb.shape)
        raise InputError(f"rgb and alpha must have the shapes (H, W, 3) and (H, W); got {shapes}")


def check_suffix(path: Path, has_alpha: bool = False, bits: int = 8) -> None:
    """Check that the suffix of a file name is one for which such an image can be written.

    Raises:
        InputError: if the check fails.
    """
    wanted = WITH_16_BITS if bits == 16 else WITH_ALPHA if has_alpha else SUFFIXES
    if path.suffix.lower() not in wanted:
        what = "an image of 16 bits" if bits == 16 else "a transparent image" if has_alpha else "an image"
        raise InputError(f"{path}: the name of {what} must end in {', '.join(sorted(wanted))}")


def _contents(path: Path, max_bytes: int) -> bytes:
    """Return all bytes of a regular file. Anything else, such as a pipe, is refused, because it might never end."""
    try:
        found = path.stat()
        is_file = stat.S_ISREG(found.st_mode)
        contents = path.read_bytes() if is_file and found.st_size <= max_bytes else None
    except OSError as error:
        raise UnreadableImage(path, f"cannot be read: {error.strerror}") from None
    except ValueError as error:  # The name is not valid for any file.
        raise UnreadableImage(Path(repr(str(path))), f"cannot be read: {error}") from None
    if not is_file:
        raise UnreadableImage(path, "cannot be read: not a regular file")
    if contents is None:
        raise TooLarge(
            path,
            f"cannot be read: its {found.st_size} bytes are more than an image within the limit of pixels can have "
            "(max_pixels)",
        )
    return contents


def _undecodable(path: Path, contents: bytes) -> UnreadableImage:
    if contents.startswith(GIF_START):
        why = "GIF is not a supported format; enlarge it with caflow video, or convert it to PNG"
    else:
        suffixes = ", ".join(sorted(SUFFIXES | {".avif"}))
        extras = "; HEIC requires the package pillow-heif" if path.suffix.lower() in READ_ONLY else ""
        why = f"it is damaged, too large, or not an image of a supported format ({suffixes}{extras})"
    return UnreadableImage(path, f"cannot decode this file: {why}")


def _several(path: Path) -> UnreadableImage:
    return UnreadableImage(
        path,
        "expected one picture, the file contains several; save each as its own file, or enlarge an animation with "
        "caflow video",
    )


def _image_file(path: Path, decoded: NDArray[Any]) -> ImageFile:
    """Convert an array decoded by OpenCV: grey, BGR or BGRA, of 8-bit or 16-bit integers or floating-point values."""
    bits = BITS.get(str(decoded.dtype))
    channels = decoded.shape[2] if decoded.ndim == 3 else 1
    if bits is None or channels not in (1, 3, 4):
        raise UnreadableImage(
            path,
            f"expected 8 or 16 bits, or floating-point values, in 1, 3 or 4 channels; got {decoded.dtype} in "
            f"{channels}; convert the image first",
        )
    if bits > 16:
        _check_values(path, float(decoded.min()), float(decoded.max()))
        decoded = np.rint(decoded * 65535).astype(np.uint16)
    deep = decoded if bits > 8 else None
    if deep is not None:
        deep = np.broadcast_to(deep.reshape(*deep.shape[:2], -1)[..., 2::-1], (*deep.shape[:2], 3))
        decoded = np.asarray(cv2.convertScaleAbs(decoded, alpha=1 / 257))  # rounds without a float copy of the image
    if channels == 1:
        grey = decoded.reshape(decoded.shape[:2])
        return ImageFile(np.repeat(grey[..., None], 3, 2), None, True, bits, deep=deep)
    rgb = np.asarray(cv2.cvtColor(decoded[..., :3], cv2.COLOR_BGR2RGB), np.uint8)
    is_grey = channels == 4 and bool((rgb == rgb[..., :1]).all())  # OpenCV decodes grey with alpha as four channels.
    if channels < 4:
        return ImageFile(rgb, None, is_grey, bits, deep=deep)
    return ImageFile(matted(rgb, decoded[..., 3]), decoded[..., 3], is_grey, bits, deep=deep)


def _check_values(path: Path, least: float, largest: float) -> None:
    """Refuse floating-point values outside 0…1."""
    if not (math.isfinite(least) and math.isfinite(largest)):
        raise UnreadableImage(path, "floating-point values must be from 0 to 1; some are NaN or infinite, replace them")
    if not 0 <= least <= largest <= 1:
        raise UnreadableImage(
            path, f"floating-point values must be from 0 to 1; got {least:.4g} to {largest:.4g}, scale them first"
        )
