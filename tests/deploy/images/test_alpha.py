"""Transparency: images have the colours and alpha of their files, and results have sharp edges without a fringe."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from commands import caflow
from described import png_chunk
from numpy.typing import NDArray
from tiny import stored

from caflow_deploy.images.image_files import read_image
from caflow_deploy.images.image_headers import PNG_START
from caflow_deploy.images.matte import matted
from caflow_runtime.ood.consistency import enlarge_image

RED = np.array([220, 40, 30], np.uint8)
SIDE = 32


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """Red disc with a hard edge. The transparent pixels around it are green."""
    alpha = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(alpha, (SIDE // 2, SIDE // 2), SIDE // 3, 255, -1)
    rgb = np.where(alpha[..., None] > 0, RED, np.array([0, 255, 0], np.uint8)).astype(np.uint8)
    path = tmp_path / "disc.png"
    assert cv2.imwrite(str(path), np.dstack([rgb[..., ::-1], alpha]))
    return path


def farthest_from_a_mixture(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8], ground: int) -> float:
    """Return the largest distance, in grey levels, of composited pixels from the mixtures of red and the background."""
    share = alpha[..., None] / 255
    found = share * rgb + (1 - share) * ground
    lowest, highest = np.minimum(RED, ground), np.maximum(RED, ground)
    return float(np.maximum(lowest - found, found - highest).max())


@pytest.mark.parametrize(
    ("options", "bits"),
    [
        ([], 8),
        (["--scale", 2.5], 8),
        (["--scale", 2], 16),
        (["--width", 20], 8),
        pytest.param(["--scale", 6, "--keep-all"], 8, marks=pytest.mark.full),
    ],
)
def test_a_hard_edge_has_no_fringe(disc: Path, tmp_path: Path, options: list[object], bits: int) -> None:
    """There is no fringe on black or white, whether the model enlarges the image or it is only reduced."""
    out, given = tmp_path / "out.png", stored(disc)
    if bits == 16:
        assert cv2.imwrite(str(disc), given.astype(np.uint16) * 257)
    caflow("image", disc, "-o", out, "-n", 1, *options, code=0)
    found = read_image(out)
    assert found.bits == bits
    assert found.alpha is not None
    for ground in (0, 255):
        assert farthest_from_a_mixture(found.rgb, found.alpha, ground) < 25
    assert found.alpha[: found.alpha.shape[0] // 16].max() == 0
    assert found.alpha[found.alpha.shape[0] // 2, found.alpha.shape[1] // 2] == 255
    if not options:  # if the hidden green is used, there is a fringe
        green = enlarge_image(np.ascontiguousarray(given[..., 2::-1]), 4)
        assert farthest_from_a_mixture(green, found.alpha, 0) > 60


def test_hidden_colours_are_replaced_by_the_nearest_visible_ones() -> None:
    """Visible colours are unchanged, and a second call changes nothing."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (20, 30, 3), np.uint8)
    alpha = rng.choice(np.array([0, 1, 127, 128, 255], np.uint8), (20, 30), p=[0.5, 0.1, 0.1, 0.1, 0.2])
    found = matted(rgb, alpha)
    np.testing.assert_array_equal(found[alpha > 0], rgb[alpha > 0])
    seen = np.argwhere(alpha >= 128)
    for y, x in np.argwhere(alpha == 0):
        far = np.hypot(*(seen - (y, x)).T)
        near = rgb[tuple(seen[far <= far.min() * 1.05 + 1e-6].T)]
        assert (near == found[y, x]).all(1).any()
    np.testing.assert_array_equal(matted(found, alpha), found)
    np.testing.assert_array_equal(matted(rgb, np.zeros_like(alpha)), rgb)  # without visible colours, nothing changes
    deep = rgb.astype(np.uint16) * 257
    np.testing.assert_array_equal(matted(deep, alpha), found * np.uint16(257))


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
