"""Transparency of image files: the colours and the alpha of TIFF files and of grey PNG files, as Pillow writes them."""

import struct
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from caflow_runtime.pictures.image_files import read_image

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 8, 4), np.uint8)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("is_big", [False, True])
def test_colours_of_a_transparent_tiff_are_those_of_the_file(
    tmp_path: Path, compression: str | None, is_big: bool
) -> None:
    """libtiff would multiply them with alpha."""
    pixels = COLOURS.copy()
    pixels[..., 3] |= 1  # The colours of wholly transparent pixels are replaced.
    PIL.Image.fromarray(pixels).save(tmp_path / "a.tif", compression=compression, big_tiff=is_big)
    found = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.rgb, pixels[..., :3])
    np.testing.assert_array_equal(found.alpha, pixels[..., 3])
    assert not found.warnings


def test_a_big_endian_tiff_keeps_its_colours(tmp_path: Path) -> None:
    shorts = {256: 1, 257: 1, 258: 8, 259: 1, 262: 2, 277: 4, 278: 1, 284: 1, 338: 2}
    entries = {tag: struct.pack(">HHIHxx", tag, 3, 1, value) for tag, value in shorts.items()}
    entries |= {tag: struct.pack(">HHII", tag, 4, 1, value) for tag, value in ((273, 8), (279, 4))}
    entries[258] = struct.pack(">HHII", 258, 3, 4, 12)
    values = bytes([138, 100, 48, 128]) + struct.pack(">4H", 8, 8, 8, 8)
    directory = struct.pack(">H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    (tmp_path / "a.tif").write_bytes(b"MM\0*" + struct.pack(">I", 8 + len(values)) + values + directory)
    found = read_image(tmp_path / "a.tif")
    assert (found.rgb.tolist(), found.alpha) == ([[[138, 100, 48]]], 128)


def test_a_cmyk_tiff_is_opaque(tmp_path: Path) -> None:
    image = PIL.Image.frombytes("CMYK", (8, 6), COLOURS.tobytes())
    image.save(tmp_path / "a.tif")
    found = read_image(tmp_path / "a.tif")
    assert found.alpha is None
    assert np.abs(found.rgb.astype(int) - np.asarray(image.convert("RGB"))).max() <= 1
