"""Colour chunks of PNG files: copied to PNG files, and named in a warning where the result cannot have them."""

import struct
from pathlib import Path

import numpy as np
import pytest
from described import insert_png_chunks

from caflow_deploy.images.image_files import read_image, write_image

GAMMA_1, SRGB_GAMMA = struct.pack(">I", 100_000), struct.pack(">I", 45_455)
DISPLAY_P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


@pytest.mark.parametrize(
    ("chunks", "kept"),
    [
        ({b"gAMA": GAMMA_1}, [b"gAMA"]),
        ({b"gAMA": SRGB_GAMMA, b"cHRM": DISPLAY_P3}, [b"gAMA", b"cHRM"]),
        ({b"cICP": bytes([12, 13, 0, 1]), b"gAMA": GAMMA_1}, [b"cICP"]),
        ({b"gAMA": SRGB_GAMMA}, []),
        ({b"cICP": bytes([1, 13, 0, 1])}, []),
        ({b"sRGB": b"\0", b"gAMA": GAMMA_1}, []),
        ({b"cICP": bytes([1, 13, 0, 0])}, [b"cICP"]),  # not the full range of values
        ({b"gAMA": b"\0"}, []),
    ],
)
def test_colours_without_profile_are_kept_in_png(tmp_path: Path, chunks: dict[bytes, bytes], kept: list[bytes]) -> None:
    """They are copied without other metadata as well. Formats that cannot store them give a warning."""
    rgb = np.zeros((4, 6, 3), np.uint8)
    write_image(tmp_path / "in.png", rgb)
    insert_png_chunks(tmp_path / "in.png", chunks)
    colours = read_image(tmp_path / "in.png").metadata.colours()
    assert not write_image(tmp_path / "out.png", rgb, metadata=colours)
    written = (tmp_path / "out.png").read_bytes()
    assert [kind for kind in chunks if kind in written] == kept
    assert all(kind + chunks[kind] in written for kind in kept)
    for target in ("jpg", "webp", "tiff", "bmp"):
        lost = write_image(tmp_path / f"out.{target}", rgb, metadata=colours)
        assert ["its colour space was not copied" in one for one in lost] == [True] * bool(kept)
