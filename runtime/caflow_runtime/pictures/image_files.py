"""Image files: read as a model sees them, with what has to come back in the result; written whole or not at all."""

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.checks import check_integer
from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.image import Image
from caflow_runtime.image_formats import JPEG_START, MAX_PIXELS, SUFFIXES, claimed_size, is_cut_off
from caflow_runtime.pictures.matte import matted
from caflow_runtime.whole_files import write_whole

WITH_ALPHA = {".png", ".tif", ".tiff", ".webp"}
WITH_16_BITS = {".png", ".tif", ".tiff"}
JPEG_SUFFIXES, JPEG_QUALITY = (".jpeg", ".jpg"), 95
TURNED = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
"""As EXIF says, but without alpha."""
WITH_PROFILE = {".jpeg", ".jpg", ".png", ".webp"}
PROFILE_HEADER, JPEG_PROFILE = 128, 65519
"""Bytes of an ICC profile: its header, and what OpenCV writes into a JPEG at most."""
HAS_PROFILES = hasattr(cv2, "imencodeWithMetadata")
"""OpenCV 4.12 or later."""
MOST_BYTES_PER_PIXEL, MOST_OTHER_BYTES = 8, 2**26
"""Of a file: pixels of four channels of 16 bits, not compressed; and what there may be besides."""


@dataclass(frozen=True)
class ImageFile:
    """An image as a file holds it."""

    rgb: Image
    """(H, W, 3) uint8; a grey image three times, 16 bits rounded to 8, transparent pixels as `matted` fills them."""
    alpha: NDArray[np.uint8] | None = None
    """(H, W)."""
    is_grey: bool = False
    bits: int = 8
    """Per channel in the file."""
    profile: bytes | None = None
    """Its ICC colour profile, where OpenCV (4.12 or later) reads one: of PNG, JPEG and WebP."""
    deep: NDArray[np.uint16] | None = None
    """(H, W, 3) RGB of a file of 16 bits, not rounded."""


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """Read an image file of 8 or 16 bits: grey, RGB or RGBA, turned as its EXIF says.

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
    width, height = claimed_size(contents) or (0, 0)
    if width * height > max_pixels:
        raise UnreadableImage(
            f"{path}: {width}×{height} are {width * height / 1e6:.4g} megapixels, more than the "
            f"{max_pixels / 1e6:.4g} that are allowed (max_pixels): reduce the image, or allow more"
        )
    if is_cut_off(contents):
        raise UnreadableImage(f"{path}: the JPEG is cut off")
    try:
        turned = _decode(contents, TURNED) if width * height else None
        flat, profile = (None, None) if turned is None else _decode_with_profile(contents)
        # As bytes: OpenCV crashes where a name is not UTF-8.
        pictures = 1 if contents.startswith(JPEG_START) or flat is None else cv2.imcount(os.fsencode(path))  # type: ignore[arg-type]
    except cv2.error:
        turned = flat = profile = None
    if turned is None or flat is None:
        raise UnreadableImage(
            f"{path}: wanted an image ({', '.join(sorted(SUFFIXES))}), cannot decode this one: it is none, damaged, or "
            "too large"
        )
    if pictures > 1:
        raise UnreadableImage(f"{path}: wanted one picture, the file holds {pictures}: give them one by one")
    has_alpha = flat.ndim == 3 and flat.shape[2] == 4
    if has_alpha and not np.array_equal(turned.reshape(*turned.shape[:2], -1), flat[..., : turned[0, 0].size]):
        raise UnreadableImage(f"{path}: is transparent and to be turned by EXIF: save it upright")
    return replace(_image_file(path, flat if has_alpha else turned), profile=profile)


def write_image(
    path: str | Path,
    rgb: Image | NDArray[np.uint16],
    alpha: NDArray[np.uint8] | None = None,
    is_grey: bool = False,
    profile: bytes | None = None,
) -> None:
    """Write (H, W, 3) uint8 or uint16 RGB, its alpha (H, W) where there is one, as grey where it was.

    Arguments:
        profile: what its colours mean, ICC; left out where the file cannot hold it.

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
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix in JPEG_SUFFIXES else []
    encoded = _encode_with_profile(suffix, pixels, quality, profile)
    if encoded is None:
        raise OSError(f"{path}: OpenCV cannot encode it")
    write_whole(path, encoded.tobytes())


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


def _decode(contents: bytes, flags: int) -> NDArray[Any] | None:
    decoded = cv2.imdecode(np.frombuffer(contents, np.uint8), flags) if contents else None
    return None if decoded is None else np.asarray(decoded)


def _decode_with_profile(contents: bytes) -> tuple[NDArray[Any] | None, bytes | None]:
    """As it lies in the file, and its ICC profile."""
    if not HAS_PROFILES or not contents:
        return _decode(contents, cv2.IMREAD_UNCHANGED), None
    decoded, kinds, values = cv2.imdecodeWithMetadata(np.frombuffer(contents, np.uint8), cv2.IMREAD_UNCHANGED)
    profiles = [value.tobytes() for kind, value in zip(kinds, values, strict=True) if kind == cv2.IMAGE_METADATA_ICCP]
    return None if decoded is None else np.asarray(decoded), profiles[0] if profiles else None


def _encode_with_profile(
    suffix: str, pixels: NDArray[Any], quality: list[int], profile: bytes | None
) -> NDArray[Any] | None:
    """A file's bytes, without the profile where it cannot hold that one: an image is worth more."""
    done, encoded = False, None
    if profile is not None and HAS_PROFILES and _fits(profile, suffix, pixels):
        kinds, values = [cv2.IMAGE_METADATA_ICCP], [np.frombuffer(profile, np.uint8)]
        with suppress(cv2.error):
            done, encoded = cv2.imencodeWithMetadata(suffix, pixels, kinds, values, quality)
    if not done:
        done, encoded = cv2.imencode(suffix, pixels, quality)
    return encoded if done else None


def _fits(profile: bytes, suffix: str, pixels: NDArray[Any]) -> bool:
    """Whether an ICC profile is whole, not too large, and of such an image's colour space: its header says that."""
    space = b"GRAY" if pixels.ndim == 2 and suffix != ".webp" else b"RGB "
    is_whole = len(profile) > PROFILE_HEADER and int.from_bytes(profile[:4], "big") == len(profile)
    has_room = suffix not in JPEG_SUFFIXES or len(profile) <= JPEG_PROFILE
    return suffix in WITH_PROFILE and is_whole and has_room and profile[16:20] == space


def _image_file(path: Path, decoded: NDArray[Any]) -> ImageFile:
    """OpenCV's array, BGR or BGRA or grey, of 8 or 16 bits."""
    bits = {np.dtype(np.uint8): 8, np.dtype(np.uint16): 16}.get(decoded.dtype)
    channels = decoded.shape[2] if decoded.ndim == 3 else 1
    if bits is None or channels not in (1, 3, 4):
        raise UnreadableImage(
            f"{path}: wanted 8 or 16 bits in 1, 3 or 4 channels, got {decoded.dtype} in {channels}: convert it first"
        )
    deep = decoded if bits == 16 else None
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
