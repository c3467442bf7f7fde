"""Broken image files: refused, or read as an image of no more pixels than are allowed."""

import random
from pathlib import Path

import cv2
import numpy as np
from fuzzing import REFUSED, Attempt
from mutations import changed_bytes

from caflow_runtime.errors import UnreadableImage
from caflow_runtime.pictures.image_files import read_image

PHOTOGRAPHS = Path(__file__).parent / "data" / "photographs"
MAX_PIXELS = 2**16
EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
"""Turned by 90°."""


def images(folder: Path) -> Attempt:
    """Of every format: grey, colours, with alpha, of 16 bits, turned, in strips, compressed otherwise."""
    good = _good_images()

    def attempt(source: random.Random) -> str:
        suffix, contents = source.choice(good)
        path = folder / f"image{suffix}"
        path.write_bytes(changed_bytes(source, contents))
        try:
            found = read_image(path, MAX_PIXELS)
        except UnreadableImage:
            return REFUSED
        height, width, channels = found.rgb.shape
        assert found.rgb.dtype == np.uint8
        assert channels == 3
        assert 0 < height * width <= MAX_PIXELS
        assert found.alpha is None or found.alpha.shape == (height, width)
        return "read"

    return attempt


def _good_images() -> list[tuple[str, bytes]]:
    photograph = read_image(min(PHOTOGRAPHS.glob("*.jpg"))).rgb
    rgb = np.ascontiguousarray(photograph[100:124, 200:220])
    grey, deep = rgb[..., 0], rgb.astype(np.uint16) * 257
    with_alpha = np.dstack([rgb, grey])
    wanted: list[tuple[str, np.ndarray, list[int]]] = [
        *((suffix, picture, []) for suffix in (".png", ".tif", ".bmp", ".webp", ".jpg") for picture in (rgb, grey)),
        *((suffix, picture, []) for suffix in (".png", ".tif") for picture in (deep, deep[..., 0], with_alpha)),
        (".webp", with_alpha, [cv2.IMWRITE_WEBP_QUALITY, 101]),
        (".webp", with_alpha, [cv2.IMWRITE_WEBP_QUALITY, 80]),
        (".jpg", rgb, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        (".png", np.where(grey > 100, 255, 0).astype(np.uint8), [cv2.IMWRITE_PNG_BILEVEL, 1]),
        *((".tif", rgb, [cv2.IMWRITE_TIFF_COMPRESSION, kind]) for kind in (1, 5, 7, 8, 32773)),
        *((".tif", rgb.astype(kind), []) for kind in (np.float32, np.float64)),
    ]
    found = [(suffix, cv2.imencode(suffix, picture, options)[1].tobytes()) for suffix, picture, options in wanted]
    jpeg = next(contents for suffix, contents in found if suffix == ".jpg")
    exif = b"\xff\xe1" + (len(EXIF) + 2).to_bytes(2, "big") + EXIF
    return [*found, (".jpg", jpeg[:2] + exif + jpeg[2:])]
