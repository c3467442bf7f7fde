"""Image files: read as a model sees them, with what has to come back in the result; written whole or not at all."""

import math
import os
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.checks import check_integer
from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.image import Image
from caflow_runtime.image_formats import JPEG_START, MAX_PIXELS, SUFFIXES, claimed_size, is_cut_off
from caflow_runtime.pictures import heif
from caflow_runtime.pictures.containers import read_metadata, with_metadata
from caflow_runtime.pictures.matte import matted
from caflow_runtime.pictures.metadata import Metadata, checked
from caflow_runtime.whole_files import write_whole

WITH_ALPHA = {".png", ".tif", ".tiff", ".webp"}
WITH_16_BITS = {".png", ".tif", ".tiff"}
JPEG_SUFFIXES, JPEG_QUALITY = (".jpeg", ".jpg"), 95
TURNED = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
"""As EXIF says, but without alpha."""
MOST_BYTES_PER_PIXEL, MOST_OTHER_BYTES = 32, 2**26
"""Of a file: pixels of four channels of 64 bits, not compressed; and what there may be besides."""
BITS = {"uint8": 8, "uint16": 16, "float32": 32, "float64": 64}


@dataclass(frozen=True)
class ImageFile:
    """An image as a file holds it."""

    rgb: Image
    """(H, W, 3) uint8; a grey image three times, 16 bits and floating-point values rounded to 8, transparent pixels as
    `matted` fills them."""
    alpha: NDArray[np.uint8] | None = None
    """(H, W)."""
    is_grey: bool = False
    bits: int = 8
    """Per channel in the file."""
    metadata: Metadata = field(default_factory=Metadata)
    """As it is in the file, which may be turned."""
    warnings: tuple[str, ...] = ()
    """What is malformed in it, although there is an image: for people."""
    deep: NDArray[np.uint16] | None = None
    """(H, W, 3) RGB of a file of more than 8 bits, in 16."""

    def pixels(self, bits: int) -> NDArray[Any]:
        """(H, W, 3) RGB, uint8 or, with 16 bits, uint16."""
        if bits == 8:
            return self.rgb
        return self.rgb * np.uint16(257) if self.deep is None else self.deep


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """Read an image file of 8 or 16 bits, or a TIFF of floating-point values 0 … 1: grey, RGB or RGBA, turned as its
    EXIF says.

    A file that is cut off is found; damage in its middle only where OpenCV's decoder stops at it.

    Arguments:
        max_pixels: a file that claims more is refused before it is decoded; OpenCV's own limit is 2³⁰.

    Raises:
        InputError: if `max_pixels` is not a positive integer.
        UnreadableImage: if it is missing, cut off, too large, of another kind of values, or holds several pictures.
    """
    check_integer("max_pixels", max_pixels, 1)
    path = Path(path)
    contents = _contents(path, MOST_BYTES_PER_PIXEL * max_pixels + MOST_OTHER_BYTES)
    is_heif = heif.is_heif(contents)
    width, height = (heif.claimed_size if is_heif else claimed_size)(contents) or (0, 0)
    if width * height > max_pixels:
        raise UnreadableImage(
            f"{path}: {width}×{height} are {width * height / 1e6:.4g} megapixels, more than the "
            f"{max_pixels / 1e6:.4g} that are allowed (max_pixels): reduce the image, or allow more"
        )
    if is_heif and width * height:
        return _read_heif(path, contents)
    if is_cut_off(contents):
        raise UnreadableImage(f"{path}: the JPEG is cut off")
    try:
        flat = _decode(contents, cv2.IMREAD_UNCHANGED) if width * height else None
        is_float = flat is not None and flat.dtype.kind == "f"  # TIFF, which is turned, and whose alpha stays, anyhow
        turned = flat if is_float or flat is None else _decode(contents, TURNED)
        # As bytes: OpenCV crashes where a name is not UTF-8.
        pictures = 1 if contents.startswith(JPEG_START) or flat is None else cv2.imcount(os.fsencode(path))  # type: ignore[arg-type]
    except cv2.error:
        turned = flat = None
    if turned is None or flat is None:
        raise _undecodable(path)
    if pictures > 1:
        raise UnreadableImage(f"{path}: wanted one picture, the file holds {pictures}: give them one by one")
    has_alpha = flat.ndim == 3 and flat.shape[2] == 4
    if has_alpha and not np.array_equal(turned.reshape(*turned.shape[:2], -1), flat[..., : turned[0, 0].size]):
        raise UnreadableImage(f"{path}: is transparent and to be turned by EXIF: save it upright")
    metadata, malformed = read_metadata(contents)
    return replace(_image_file(path, flat if has_alpha else turned), metadata=metadata, warnings=tuple(malformed))


def write_image(
    path: str | Path,
    rgb: Image | NDArray[np.uint16],
    alpha: NDArray[np.uint8] | None = None,
    is_grey: bool = False,
    metadata: Metadata | None = None,
    quality: int | None = None,
) -> list[str]:
    """Write (H, W, 3) uint8 or uint16 RGB, its alpha (H, W) where there is one, as grey where it was.

    Arguments:
        metadata: of the image that it was made of; None for none.
        quality: 1 … 100, of JPEG and WebP; None is 95 for JPEG, and WebP without loss.

    Returns:
        What of the metadata the file cannot hold, for people.

    Raises:
        InputError: for a suffix that cannot be written, or not with alpha, or not with 16 bits.
        OSError: if the file cannot be written.
    """
    path = Path(path)
    check_suffix(path, alpha is not None, 8 * rgb.itemsize)
    pixels = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY if is_grey and alpha is None else cv2.COLOR_RGB2BGR)
    if alpha is not None:
        grey = np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
        deep_alpha = alpha if rgb.dtype == np.uint8 else alpha * np.uint16(257)
        pixels = np.dstack([grey if is_grey else pixels, deep_alpha])
    suffix = path.suffix.lower()
    done, encoded = cv2.imencode(suffix, pixels, _encoding(suffix, quality))
    if not done:
        raise OSError(f"{path}: OpenCV cannot encode it")
    contents, left_out = encoded.tobytes(), list[str]()
    if metadata is not None:
        contents, left_out = with_metadata(contents, metadata, pixels.ndim == 2 and suffix != ".webp")
    write_whole(path, contents)
    return left_out


def check_suffix(path: Path, has_alpha: bool = False, bits: int = 8) -> None:
    """Whether an image can be written under that name.

    Raises:
        InputError
    """
    wanted = WITH_16_BITS if bits == 16 else WITH_ALPHA if has_alpha else SUFFIXES
    if path.suffix.lower() not in wanted:
        what = "an image of 16 bits" if bits == 16 else "a transparent image" if has_alpha else "an image"
        raise InputError(f"{path}: wanted a name for {what}, ending in {', '.join(sorted(wanted))}")


def enlarge_alpha(alpha: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(h, w) to (height, width), bicubic."""
    return np.asarray(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _contents(path: Path, max_bytes: int) -> bytes:
    """All bytes of a regular file: a pipe might never end."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableImage(f"{path}: cannot be read: it is not a file")
        if found.st_size > max_bytes:
            raise UnreadableImage(
                f"{path}: cannot be read: it has {found.st_size} bytes, more than an image of so many pixels as are "
                "allowed (max_pixels)"
            )
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # a name that no file can have
        raise UnreadableImage(f"{path!r}: cannot be read: {error}") from None


def _undecodable(path: Path) -> UnreadableImage:
    suffixes = ", ".join(sorted(SUFFIXES))
    return UnreadableImage(
        f"{path}: wanted an image ({suffixes}), cannot decode this one: it is none, damaged, or too large"
    )


def _read_heif(path: Path, contents: bytes) -> ImageFile:
    """AVIF or HEIC."""
    try:
        pixels, found, pictures = heif.decode(contents)
    except InputError as error:
        raise UnreadableImage(f"{path}: {error}") from None
    except heif.UNDECODABLE:
        raise _undecodable(path) from None
    if pictures > 1:
        raise UnreadableImage(f"{path}: wanted one picture, the file holds {pictures}: give them one by one")
    metadata, malformed = checked(found)
    alpha = pixels[..., -1] if pixels.shape[2] in (2, 4) else None
    is_grey = pixels.shape[2] < 3
    rgb = np.repeat(pixels[..., :1], 3, 2) if is_grey else np.ascontiguousarray(pixels[..., :3])
    return ImageFile(rgb, alpha, is_grey, metadata=metadata, warnings=tuple(malformed))


def _decode(contents: bytes, flags: int) -> NDArray[Any] | None:
    decoded = cv2.imdecode(np.frombuffer(contents, np.uint8), flags) if contents else None
    return None if decoded is None else np.asarray(decoded)


def _encoding(suffix: str, quality: int | None) -> list[int]:
    """OpenCV's parameters."""
    if suffix in JPEG_SUFFIXES:
        return [cv2.IMWRITE_JPEG_QUALITY, quality or JPEG_QUALITY]
    return [cv2.IMWRITE_WEBP_QUALITY, quality] if suffix == ".webp" and quality else []


def _image_file(path: Path, decoded: NDArray[Any]) -> ImageFile:
    """OpenCV's array, BGR or BGRA or grey, of 8 or 16 bits, or of floating-point values."""
    bits = BITS.get(str(decoded.dtype))
    channels = decoded.shape[2] if decoded.ndim == 3 else 1
    if bits is None or channels not in (1, 3, 4):
        raise UnreadableImage(
            f"{path}: wanted 8 or 16 bits, or floating-point values, in 1, 3 or 4 channels, got {decoded.dtype} in "
            f"{channels}: convert it first"
        )
    if bits > 16:
        _check_values(path, float(decoded.min()), float(decoded.max()))
        decoded = np.rint(decoded * 65535).astype(np.uint16)
    deep = decoded if bits > 8 else None
    if deep is not None:
        deep = np.broadcast_to(deep.reshape(*deep.shape[:2], -1)[..., 2::-1], (*deep.shape[:2], 3))
        decoded = np.asarray(cv2.convertScaleAbs(decoded, alpha=1 / 257))  # rounds; no floats as large as the image
    if channels == 1:
        grey = decoded.reshape(decoded.shape[:2])
        return ImageFile(np.repeat(grey[..., None], 3, 2), None, True, bits, deep=deep)
    rgb = np.asarray(cv2.cvtColor(decoded[..., :3], cv2.COLOR_BGR2RGB), np.uint8)
    is_grey = channels == 4 and bool((rgb == rgb[..., :1]).all())  # OpenCV gives grey with alpha as four channels
    if channels < 4:
        return ImageFile(rgb, None, is_grey, bits, deep=deep)
    return ImageFile(matted(rgb, decoded[..., 3]), decoded[..., 3], is_grey, bits, deep=deep)


def _check_values(path: Path, least: float, largest: float) -> None:
    """Of floating-point values."""
    if not (math.isfinite(least) and math.isfinite(largest)):
        raise UnreadableImage(
            f"{path}: wanted floating-point values from 0 to 1, some are NaN or infinite: replace them"
        )
    if not 0 <= least <= largest <= 1:
        raise UnreadableImage(
            f"{path}: wanted floating-point values from 0 to 1, got {least:.4g} to {largest:.4g}: scale them"
        )
