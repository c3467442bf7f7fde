"""AVIF and HEIC files: read if their packages are installed, and refused before decoding if they are too large."""

import io
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from commands import caflow
from described import PROFILE, XMP
from tiny import TINY

from caflow_deploy.images.image_files import read_image, write_image
from caflow_runtime.errors import UnreadableImage

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
    with pytest.raises(UnreadableImage, match=r"HEIC requires .*pip install 'caflow-deploy\[heic\]'"):
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
