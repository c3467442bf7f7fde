"""Fuzzing of image files: damaged files are refused, or read as an image within the limit of pixels.

Metadata that was read can be written.
"""

import random
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from costly_images import avif_with_exif, progressive, with_texts
from described import ALL, IPTC, PROFILE, XMP, exif_file, nested_exif
from fuzzing import REFUSED, Attempt
from mutations import changed_bytes
from PIL import Image

from caflow_deploy.images.image_files import read_image
from caflow_deploy.images.image_headers import read_header
from caflow_deploy.images.metadata import Metadata
from caflow_deploy.images.metadata_files import encode, read_metadata
from caflow_deploy.page.painting import read_painting
from caflow_runtime.errors import UnreadableImage

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
PHOTOGRAPHS = Path(__file__).parents[1] / "data" / "photographs"
MAX_PIXELS = 2**16
EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
"""EXIF block with orientation 6: the image must be rotated by 90°."""


def images(folder: Path) -> Attempt:
    """Change an image file: PNG, TIFF, BMP, WebP, JPEG or AVIF, in several variants.

    The variants are grey, colour, alpha, 16 bits, EXIF rotation and several compressions.
    """
    good = _good_images()
    results = _results()

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
        for suffix, pixels in results.items():
            _check_metadata(suffix, pixels, found.metadata)
        return "read"

    return attempt


def paintings(_: Path) -> Attempt:
    """Change a PNG that is posted as painted on the page."""
    file = BytesIO()
    Image.new("RGBA", (12, 10), (200, 30, 30, 90)).save(file, "PNG")

    def attempt(source: random.Random) -> str:
        try:
            found = read_painting(changed_bytes(source, file.getvalue()))
        except UnreadableImage:
            return REFUSED
        assert found is not None
        assert found.ndim == 3
        assert found.shape[2] == 4
        return "read"

    return attempt


def _results() -> dict[str, np.ndarray]:
    """Return the decoded pixels of a file without metadata in each output format."""
    return {
        suffix: _decoded(encode(suffix, RGB, Metadata(), 95)[0])
        for suffix in (".png", ".jpg", ".webp", ".tiff", ".bmp")
    }


def _decoded(contents: bytes) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(contents, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(decoded)


def _check_metadata(suffix: str, pixels: np.ndarray, metadata: Metadata) -> None:
    """Check that metadata that was read can be written and read again, and that writing it changes no pixel."""
    written, _ = encode(suffix, RGB, metadata, 95)
    header = read_header(written)
    assert header is not None
    again, malformed = read_metadata(written, header)
    assert not malformed
    assert again.iptc in (metadata.iptc, None)
    np.testing.assert_array_equal(_decoded(written), pixels)


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
    first = dict(reversed(found))  # the first file of each format is in colour
    jpeg = first[".jpg"]
    exif = b"\xff\xe1" + (len(EXIF) + 2).to_bytes(2, "big") + EXIF
    described = [(suffix, encode(suffix, rgb, ALL, 95)[0]) for suffix in first]
    tiff = exif_file(">", np.zeros((30, 40, 3), np.uint8).tobytes(), {700: XMP, 33723: IPTC, 34675: PROFILE})
    avif = BytesIO()
    Image.fromarray(rgb).save(avif, "AVIF", exif=b"Exif\0\0" + EXIF[6:], xmp=XMP, icc_profile=PROFILE)
    described += [(".tif", tiff), (".avif", avif.getvalue())]
    described += [(".jpg", progressive(300, 24)), (".avif", avif_with_exif(nested_exif("<", 50)))]
    described += [(".png", with_texts(kind, 20)) for kind in (b"zTXt", b"iTXt")]
    for order in "<>":
        nested = BytesIO()
        Image.fromarray(rgb).save(nested, "JPEG", exif=b"Exif\0\0" + nested_exif(order, 50))
        described.append((".jpg", nested.getvalue()))
    return [*found, (".jpg", jpeg[:2] + exif + jpeg[2:]), *described * 4]
