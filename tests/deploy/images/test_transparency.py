"""Transparency of image files: the colours and the alpha of TIFF files and of grey PNG files, as Pillow writes them."""

import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from described import png_chunk

from caflow_deploy.images.image_files import read_image
from caflow_deploy.images.image_headers import PNG_START

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 8, 4), np.uint8)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("is_big", [False, True])
def test_a_transparent_tiff_has_the_colours_of_the_file(tmp_path: Path, compression: str | None, is_big: bool) -> None:
    """libtiff would multiply them with alpha."""
    pixels = COLOURS.copy()
    pixels[..., 3] |= 1  # The colours of wholly transparent pixels are replaced.
    PIL.Image.fromarray(pixels).save(tmp_path / "a.tif", compression=compression, big_tiff=is_big)
    found = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.rgb, pixels[..., :3])
    np.testing.assert_array_equal(found.alpha, pixels[..., 3])
    assert not found.warnings


def test_a_cmyk_tiff_is_opaque(tmp_path: Path) -> None:
    image = PIL.Image.frombytes("CMYK", (8, 6), COLOURS.tobytes())
    image.save(tmp_path / "a.tif")
    found = read_image(tmp_path / "a.tif")
    assert found.alpha is None
    assert np.abs(found.rgb.astype(int) - np.asarray(image.convert("RGB"))).max() <= 1


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_grey_png_keeps_its_transparent_value(tmp_path: Path, bits: int) -> None:
    """The pixels are 0, 1, 2 ... in two rows, and the pixels of the value 1 are transparent."""
    width = min(2**bits, 8)
    digits = "".join(f"{value:0{bits}b}" for value in range(width))
    row = b"\0" + int(digits.ljust(-(-len(digits) // 8) * 8, "0"), 2).to_bytes(-(-len(digits) // 8), "big")
    header = struct.pack(">IIBBBBB", width, 2, bits, 0, 0, 0, 0)
    chunks = {b"IHDR": header, b"tRNS": struct.pack(">H", 1), b"IDAT": zlib.compress(2 * row), b"IEND": b""}
    path = tmp_path / "grey.png"
    path.write_bytes(PNG_START + b"".join(png_chunk(kind, data) for kind, data in chunks.items()))
    found = read_image(path)
    assert (found.is_grey, found.bits) == (True, max(bits, 8))
    assert found.alpha is not None
    assert found.alpha.tolist() == 2 * [[0 if value == 1 else 255 for value in range(width)]]


def test_alpha_of_a_grey_tiff_is_not_lost_silently(tmp_path: Path) -> None:
    PIL.Image.new("LA", (8, 6), (100, 128)).save(tmp_path / "grey.tif")
    found = read_image(tmp_path / "grey.tif")
    assert found.alpha is None
    (warning,) = found.warnings
    assert warning.startswith("its alpha was not copied")
    PIL.Image.new("L", (8, 6), 100).save(tmp_path / "grey.tif")
    assert not read_image(tmp_path / "grey.tif").warnings


def test_a_transparent_value_that_no_pixel_has_makes_no_alpha(tmp_path: Path) -> None:
    PIL.Image.new("L", (8, 6), 100).save(tmp_path / "grey.png", transparency=99)
    assert read_image(tmp_path / "grey.png").alpha is None
    PIL.Image.new("L", (8, 6), 100).save(tmp_path / "grey.png", transparency=100)
    assert not np.any(read_image(tmp_path / "grey.png").alpha)
