"""Image files: read as a model sees them, with what has to come back in the result; written whole or not at all."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.inputs import Image

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
WITH_ALPHA = {".png", ".tif", ".tiff", ".webp"}
JPEG_QUALITY = 95
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
JPEG_TRAILER_BYTES = 4096  # some cameras write more after the image's end


class UnreadableImage(ValueError):
    """A file is not an image that can be read whole."""


@dataclass(frozen=True)
class ImageFile:
    """An image as a file holds it."""

    rgb: Image
    """(H, W, 3) uint8; a grey image three times, 16 bits rounded to 8."""
    alpha: NDArray[np.uint8] | None = None
    """(H, W)."""
    is_grey: bool = False
    bits: int = 8
    """Per channel in the file."""


def read_image(path: str | Path) -> ImageFile:
    """Read an image file of 8 or 16 bits: grey, RGB or RGBA, turned as its EXIF says.

    Raises:
        UnreadableImage: if it is missing, cut off, of another kind of values, or holds several pictures.
    """
    path = Path(path)
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{path}: cannot be read: {error.strerror}") from None
    is_jpeg = contents.startswith(JPEG_START)
    if is_jpeg and JPEG_END not in contents[-JPEG_TRAILER_BYTES:]:
        # OpenCV would fill what is missing with grey and say nothing.
        raise UnreadableImage(f"{path}: the JPEG is cut off")
    # Only the first of these turns the image as EXIF says, only the second keeps alpha.
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH if is_jpeg else cv2.IMREAD_UNCHANGED
    try:
        decoded = cv2.imdecode(np.frombuffer(contents, np.uint8), flags) if contents else None
        pictures = 1 if is_jpeg or decoded is None else cv2.imcount(str(path))
    except cv2.error:
        decoded, pictures = None, 0
    if decoded is None:
        raise UnreadableImage(f"{path}: wanted an image ({', '.join(sorted(SUFFIXES))}), cannot decode this one")
    if pictures > 1:
        raise UnreadableImage(f"{path}: wanted one picture, the file holds {pictures}: give them one by one")
    return _image_file(path, np.asarray(decoded))


def write_image(path: str | Path, rgb: Image, alpha: NDArray[np.uint8] | None = None, is_grey: bool = False) -> None:
    """Write (H, W, 3) uint8 RGB, its alpha (H, W) where there is one, as grey where it was.

    Raises:
        ValueError: for a suffix that cannot be written, or not with alpha.
        OSError: if the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or (alpha is not None and suffix not in WITH_ALPHA):
        wanted = WITH_ALPHA if alpha is not None else SUFFIXES
        raise ValueError(f"{path}: wanted a name that ends in {', '.join(sorted(wanted))}")
    pixels = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY if is_grey and alpha is None else cv2.COLOR_RGB2BGR)
    if alpha is not None:
        grey = np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
        pixels = np.dstack([grey if is_grey else pixels, alpha])
    done, encoded = cv2.imencode(suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise OSError(f"{path}: OpenCV cannot encode it")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(encoded.tobytes())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def enlarge_alpha(alpha: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(h, w) to (height, width), bicubic."""
    return np.asarray(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _image_file(path: Path, decoded: NDArray[Any]) -> ImageFile:
    """OpenCV's array, BGR or BGRA or grey, of 8 or 16 bits."""
    bits = {np.dtype(np.uint8): 8, np.dtype(np.uint16): 16}.get(decoded.dtype)
    channels = decoded.shape[2] if decoded.ndim == 3 else 1
    if bits is None or channels not in (1, 3, 4):
        raise UnreadableImage(
            f"{path}: wanted 8 or 16 bits in 1, 3 or 4 channels, got {decoded.dtype} in {channels}: convert it first"
        )
    if bits == 16:
        decoded = np.rint(decoded / 257).astype(np.uint8)
    if channels == 1:
        grey = decoded.reshape(decoded.shape[:2])
        return ImageFile(np.repeat(grey[..., None], 3, 2), None, True, bits)
    rgb = np.asarray(cv2.cvtColor(decoded[..., :3], cv2.COLOR_BGR2RGB), np.uint8)
    is_grey = channels == 4 and bool((rgb == rgb[..., :1]).all())  # OpenCV gives grey with alpha as four channels
    return ImageFile(rgb, decoded[..., 3] if channels == 4 else None, is_grey, bits)
