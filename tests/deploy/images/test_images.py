"""Image files: round trips, AVIF and HEIC, and errors for unsupported, damaged and too large files."""

import io
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from commands import caflow
from described import PROFILE, XMP, png_chunk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny import TINY, photograph

from caflow_deploy.images.file_search import SUFFIXES
from caflow_deploy.images.image_files import read_image, write_image
from caflow_deploy.images.image_headers import PNG_START, claimed_size
from caflow_runtime.errors import InputError, TooLarge, UnreadableImage


@pytest.fixture(scope="module")
def picture(photographs: Path) -> NDArray[np.uint8]:
    return photograph(photographs, 0, 30, 40)


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_each_format_is_read_as_it_was_written(tmp_path: Path, picture: NDArray[np.uint8], suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    write_image(path, picture)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    found = read_image(path)
    assert (found.is_grey, found.bits, found.alpha) == (False, 8, None)
    error = np.abs(found.rgb.astype(int) - picture)
    assert error.mean() < 3 if suffix in (".jpg", ".jpeg", ".webp") else error.max() == 0


def test_webp_of_quality_100_is_lossless(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    alpha = np.arange(30 * 40, dtype=np.uint32).reshape(30, 40).astype(np.uint8) | np.uint8(1)
    write_image(tmp_path / "a.webp", picture, alpha, quality=100)
    found = read_image(tmp_path / "a.webp")
    np.testing.assert_array_equal(found.rgb, picture)
    np.testing.assert_array_equal(found.alpha, alpha)


def test_alpha_and_grey_come_back(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    alpha = np.arange(30 * 40, dtype=np.uint32).reshape(30, 40).astype(np.uint8)
    write_image(tmp_path / "both.png", picture, alpha)
    both = read_image(tmp_path / "both.png")
    np.testing.assert_array_equal(both.rgb[alpha > 0], picture[alpha > 0])
    np.testing.assert_array_equal(both.alpha, alpha)
    write_image(tmp_path / "grey.png", picture, is_grey=True)
    grey = read_image(tmp_path / "grey.png")
    assert grey.is_grey
    assert cv2.imread(str(tmp_path / "grey.png"), cv2.IMREAD_UNCHANGED).ndim == 2  # type: ignore[union-attr]
    write_image(tmp_path / "grey-alpha.png", picture, alpha, is_grey=True)
    assert read_image(tmp_path / "grey-alpha.png").is_grey
    with pytest.raises(InputError, match=r"the name of a transparent image must end in \.png, \.tif, \.tiff, \.webp"):
        write_image(tmp_path / "both.jpg", picture, alpha)


def test_values_of_16_bits_are_read_as_8_bits_with_rounding(tmp_path: Path) -> None:
    every = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    assert cv2.imwrite(str(tmp_path / "every.png"), every)
    found = read_image(tmp_path / "every.png")
    assert found.bits == 16
    np.testing.assert_array_equal(found.rgb[..., 0], np.rint(every / 257))


def test_images_are_rotated_by_their_exif_orientation(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    exif = PIL.Image.Exif()
    exif[274] = 6  # rotate the image clockwise
    for suffix in ("png", "jpg"):
        PIL.Image.fromarray(picture).save(tmp_path / f"flat.{suffix}")
        PIL.Image.fromarray(picture).save(tmp_path / f"turned.{suffix}", exif=exif)
        flat, turned = (read_image(tmp_path / f"{name}.{suffix}").rgb for name in ("flat", "turned"))
        np.testing.assert_array_equal(turned, np.rot90(flat, -1))
    PIL.Image.fromarray(picture).convert("RGBA").save(tmp_path / "alpha.png", exif=exif)
    with pytest.raises(UnreadableImage, match="EXIF rotation"):
        read_image(tmp_path / "alpha.png")


def test_files_that_are_no_single_image_are_refused_with_advice(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    assert cv2.imwrite(str(tmp_path / "wide.tiff"), picture.astype(np.int32))
    assert cv2.imwritemulti(str(tmp_path / "pages.tiff"), [picture, picture])
    (tmp_path / "still.gif").write_bytes(b"GIF89a")
    with (tmp_path / "phone.MOV").open("wb") as file:
        file.truncate(2**40)  # more than an image may have
    (tmp_path / "a.heic").touch()
    for name, said in (
        ("wide.tiff", "expected 8 or 16 bits"),
        ("pages.tiff", "caflow video"),
        ("still.gif", "caflow video"),
        ("phone.MOV", "caflow video"),
        ("a.heic", "package pillow-heif"),
        ("missing.png", "cannot be read"),
    ):
        with pytest.raises(UnreadableImage, match=f"{name}.*{said}"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floating_point_values_are_read(tmp_path: Path, picture: NDArray[np.uint8], kind: type) -> None:
    """Values must be from 0 to 1. RGB, RGBA and grey images are read."""
    path, values = tmp_path / "float.tiff", picture[..., ::-1].astype(kind) / 255
    exactly = [cv2.IMWRITE_TIFF_COMPRESSION, 1]
    alpha: NDArray[Any] = np.linspace(0, 1, values[..., 0].size, dtype=kind).reshape(values.shape[:2])
    assert cv2.imwrite(str(path), values, exactly)
    found = read_image(path)
    np.testing.assert_array_equal(found.rgb, picture)
    assert found.bits == 8 * np.dtype(kind).itemsize
    assert cv2.imwrite(str(path), values[..., 0], exactly)
    assert read_image(path).is_grey
    assert cv2.imwrite(str(path), np.dstack([values, alpha]), exactly)
    np.testing.assert_array_equal(read_image(path).alpha, np.rint(255 * alpha))
    for value, said in (
        (np.nan, "some are NaN or infinite, replace them"),
        (-np.inf, "some are NaN or infinite"),
        (1.25, "floating-point values must be from 0 to 1; got 0.* to 1.25, scale them"),
        (-0.5, "got -0.5 to "),
    ):
        values[3, 4, 1] = value
        assert cv2.imwrite(str(path), values, exactly)
        with pytest.raises(UnreadableImage, match=said):
            read_image(path)


def test_a_name_may_be_any_bytes(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    """OpenCV would end the process if it got a name that is not UTF-8."""
    write_image(tmp_path / "whole.png", picture)
    path = (tmp_path / "whole.png").rename(tmp_path / b"caf\xe9.png".decode("utf-8", "surrogateescape"))
    np.testing.assert_array_equal(read_image(path).rgb, picture)


@settings(max_examples=60)
@given(st.sampled_from(sorted(SUFFIXES)), st.floats(0, 0.999))
def test_a_file_that_is_cut_off_is_refused(tmp_path_factory: pytest.TempPathFactory, suffix: str, share: float) -> None:
    folder = tmp_path_factory.mktemp("cut")
    rng = np.random.default_rng(0)
    write_image(folder / f"whole{suffix}", rng.integers(0, 256, (20, 30, 3), np.uint8))
    contents = (folder / f"whole{suffix}").read_bytes()
    path = folder / f"cut{suffix}"
    path.write_bytes(contents[: int(share * len(contents))])
    with pytest.raises(UnreadableImage):
        read_image(path)


def test_data_after_the_end_of_a_jpeg_is_ignored(tmp_path: Path, photographs: Path) -> None:
    """Phones store a film there, and some cameras zeros. A thumbnail has an end of its own, and bytes of 255 may stand
    before a marker. OpenCV alone would fill the rest of a file that is cut off with grey."""
    photo, path = sorted(photographs.glob("*.jpg"))[0], tmp_path / "motion.jpg"
    whole, thumbnail = photo.read_bytes(), b"Exif\0\0 a thumbnail \xff\xd9"
    with_thumbnail = whole[:2] + b"\xff\xff\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + whole[2:]
    for more in (bytes(range(200)) * 100, bytes(20_000)):
        path.write_bytes(with_thumbnail + more)
        np.testing.assert_array_equal(read_image(path).rgb, read_image(photo).rgb)
        assert not any("damaged" in warning for warning in read_image(path).warnings)
        path.write_bytes(with_thumbnail[: len(whole) // 2] + more)
        with pytest.raises(UnreadableImage, match="the JPEG file is truncated"):
            read_image(path)


def test_damage_in_the_middle_of_a_jpeg_is_a_warning(tmp_path: Path, photographs: Path) -> None:
    damaged = bytearray(sorted(photographs.glob("*.jpg"))[0].read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 512] = bytes(512)  # a sector that was lost
    (tmp_path / "damaged.jpg").write_bytes(damaged)
    assert "the JPEG is damaged" in read_image(tmp_path / "damaged.jpg").warnings[0]


def test_a_small_file_may_not_claim_a_gigapixel(tmp_path: Path) -> None:
    side = 32_000  # with 1 bit per pixel, compressed to 125 kB
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side * (1 + side // 8)), 9)
    chunks = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", rows), png_chunk(b"IEND", b""))
    (tmp_path / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    with pytest.raises(TooLarge, match=r"32000×32000 are 1024 megapixels, more than the limit of 268\.4"):
        read_image(tmp_path / "large.png")


def test_the_claimed_size_of_a_tiled_tiff_includes_its_tiles() -> None:
    """A TIFF of one pixel in tiles of 65536×65536. Of two entries for the width, the larger one counts."""
    entries = [(256, 1), (257, 1), (322, 65_536), (323, 65_536)]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    contents = b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)
    assert claimed_size(contents) == (65_536, 65_536)
    twice = struct.pack("<HHII", 256, 4, 1, 70_000)
    for order in ([directory, twice], [twice, directory]):
        contents = b"II*\0" + struct.pack("<IH", 8, len(entries) + 1) + b"".join(order) + bytes(4)
        assert claimed_size(contents) == (70_000, 65_536)


@pytest.mark.parametrize(
    "contents",
    [
        b"P6 2 2 255 " + bytes(12),  # for other formats, nothing limits the memory that decoders allocate
        b"GIF89a" + bytes(20),
        b"RIFF\0\0\0\0WAVE" + bytes(30),
        b"\xff\xd8" + b"\xff\xfe\0\x02" * 2**17 + b"\xff\xc0\0\x11\x08\0\x01\0\x01\xff\xd9",
        b"\xff\xd8" + b"\xff" * 2**20 + b"\0\xff\xd9",
        b"II*\0\xff\xff\xff\xff",
        b"II+\0\x08\0\0\0" + b"\x10" + bytes(7) + b"\xff" * 8,
        b"BM" + bytes(12),
        b"\0\0\0\x18ftypisom",
        b"\0\0\0\x08ftyp",
        b"\0\0\0\x10ftypavif" + b"\0\0\0\1meta" * 3000,
        PNG_START + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0)) + b"\x7f\xff\xff\xffIDAT",
    ],
)
def test_a_file_without_a_known_size_is_not_decoded(tmp_path: Path, contents: bytes) -> None:
    assert claimed_size(contents) is None
    (tmp_path / "image.png").write_bytes(contents)
    with pytest.raises(UnreadableImage):
        read_image(tmp_path / "image.png")


def test_only_regular_files_of_the_size_of_images_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero"), tmp_path):
        with pytest.raises(UnreadableImage, match=f"^{path}: cannot be read: not a regular file$"):
            read_image(path)
    for name in ("a\0b.png", "a" * 300, "\ud800.png"):
        with pytest.raises(UnreadableImage, match="cannot be read"):
            read_image(tmp_path / name)
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UnreadableImage, match="1099511627776 bytes"):
        read_image(tmp_path / "sparse.png")


HALVES = np.zeros((24, 40, 3), np.uint8)
HALVES[:, 20:] = 250
"""Image whose left half is dark and whose right half is bright."""


def avif(pixels: np.ndarray = HALVES, orientation: int = 1, **options: Any) -> bytes:
    file, exif = io.BytesIO(), PIL.Image.Exif()
    exif.update({271: "Maker", 274: orientation})
    PIL.Image.fromarray(pixels).save(file, "AVIF", quality=100, exif=exif, xmp=XMP, icc_profile=PROFILE, **options)
    return file.getvalue()


def test_avif_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    path.write_bytes(avif())
    found = read_image(path)
    assert np.abs(found.rgb.astype(int) - HALVES).mean() < 3
    assert (found.alpha, found.is_grey, found.bits, found.warnings) == (None, False, 8, ())
    assert (found.metadata.profile, found.metadata.xmp) == (PROFILE, XMP)
    assert found.metadata.exif is not None
    assert b"Maker" in found.metadata.exif
    path.write_bytes(avif(np.dstack([HALVES, HALVES[..., 0]])))
    alpha = read_image(path).alpha
    assert alpha is not None
    assert np.abs(alpha.astype(int) - HALVES[..., 0]).mean() < 3
    path.write_bytes(avif(HALVES[..., 0]))
    assert read_image(path).is_grey


def test_codes_of_other_colours_than_srgb_become_those_of_png(tmp_path: Path) -> None:
    """A profile takes precedence over codes."""
    file = io.BytesIO()
    PIL.Image.fromarray(HALVES).save(file, "AVIF")
    srgb = struct.pack(">4sHH", b"nclx", 1, 13)
    assert file.getvalue().count(srgb) == 1
    (tmp_path / "a.avif").write_bytes(file.getvalue())
    assert read_image(tmp_path / "a.avif").metadata.png_colours is None
    (tmp_path / "a.avif").write_bytes(file.getvalue().replace(srgb, struct.pack(">4sHH", b"nclx", 9, 16)))
    found = read_image(tmp_path / "a.avif")
    assert not write_image(tmp_path / "a.png", found.rgb, metadata=found.metadata.colours())
    assert b"\0\0\0\4cICP\x09\x10\0\1" in (tmp_path / "a.png").read_bytes()
    (lost,) = write_image(tmp_path / "a.jpg", found.rgb, metadata=found.metadata.colours())
    assert lost.startswith("its colour space was not copied")
    (tmp_path / "a.avif").write_bytes(avif().replace(srgb, struct.pack(">4sHH", b"nclx", 9, 16)))
    assert read_image(tmp_path / "a.avif").metadata.png_colours is None


def test_avif_is_turned_and_its_result_is_a_png(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.avif").write_bytes(avif(HALVES[:8, 16:24], orientation=6))
    caflow("image", tmp_path / "in", "-o", tmp_path / "out", "--model", TINY, "-n", 1, code=0)
    found = read_image(tmp_path / "out" / "a.png")
    assert found.rgb.shape == (32, 32, 3)
    assert found.rgb[:8].mean() < 60 < 190 < found.rgb[-8:].mean()
    assert (found.metadata.profile, found.metadata.xmp is None) == (PROFILE, False)
    with PIL.Image.open(tmp_path / "out" / "a.png") as image:
        assert image.getexif()[274] == 1


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole, path = avif(), tmp_path / "a.avif"
    for size in range(40, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(UnreadableImage):
            read_image(path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(avif().replace(b"avif", b"heic"))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnreadableImage, match=r"HEIC requires .*pip install pillow-heif"):
        read_image(tmp_path / "a.heic")


def test_heic_is_read(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="requires pillow-heif, whose wheels contain x265 (GPL)")
    exif = PIL.Image.Exif()
    exif.update({271: "Maker", 274: 6})
    file = pillow_heif.from_pillow(PIL.Image.fromarray(HALVES))
    file.save(tmp_path / "a.heic", quality=-1, exif=exif.tobytes(), chroma=444)
    found = read_image(tmp_path / "a.heic")
    assert found.rgb.shape == (40, 24, 3)  # rotated once, by libheif, and not again for the EXIF orientation
    assert found.rgb[:16].mean() < 10 < 240 < found.rgb[-16:].mean()
    assert found.metadata.exif is not None
    assert b"Maker" in found.metadata.exif
    with pytest.raises(UnreadableImage, match="64×64 are"):  # the limit applies to the coded size
        read_image(tmp_path / "a.heic", 64 * 64 - 1)
