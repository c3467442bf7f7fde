"""Small files that would take long or much memory to decode, and stops while a file is decoded."""

import random
import signal
import struct
import sys
from pathlib import Path
from threading import Event
from time import sleep

import PIL.Image
import pytest
from commands import in_a_process, started
from costly_images import avif_with_exif, progressive, with_texts
from tiny import TINY

from caflow_deploy.images.decoding import MAX_SCANNED_PIXELS
from caflow_deploy.images.image_files import read_image
from caflow_deploy.images.image_headers import START_OF_SCAN
from caflow_runtime.errors import UnreadableImage
from caflow_runtime.interruptible import bounded, is_call_left

SIDE = 512
WITH_PEAK = """
import sys
from caflow_deploy.images.image_files import read_image
from caflow_runtime.errors import UnreadableImage
from caflow_runtime.available_memory import peak_memory
before = peak_memory()
try:
    print(read_image(sys.argv[1]).rgb.shape)
except UnreadableImage as error:
    print(error)
print(peak_memory() - before)
"""
SLOW = """
import os, sys, time
import cv2
import {program} as program
def decode(*_):
    os.write(1, b"decodes\\n")  # at once, as several threads may do so
    time.sleep(600)
cv2.imdecode = decode
program.main()
"""


def exif_with(pointer: int) -> bytes:
    """Return EXIF whose subdirectory has 4,000 values of 100 kB, one above the other."""
    entries = [struct.pack("<HHII", 40_000 + k, 1, 100_000, 38) for k in range(4000)]
    start = struct.pack("<HHHIHHHHIII", 2, 274, 3, 1, 6, 0, pointer, 4, 1, 38, 0)
    below = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0\x08\0\0\0" + start + (below + random.Random(0).randbytes(150_000))


def test_scans_of_a_jpeg_are_limited(tmp_path: Path) -> None:
    path = tmp_path / "in.jpg"
    for scans in (50, MAX_SCANNED_PIXELS // SIDE**2):
        path.write_bytes(progressive(scans, SIDE) + START_OF_SCAN * 10**6)  # what follows the end does not count
        if scans == 50:
            assert (read_image(path).rgb == 99).all()
        else:
            with pytest.raises(UnreadableImage, match=r"it has \d+ scans, which take too long to decode"):
                read_image(path)


@pytest.mark.parametrize(
    ("name", "contents", "found"),
    [
        ("in.png", with_texts(b"zTXt", 1500), "(8, 8, 3)"),
        ("in.png", with_texts(b"iTXt", 1500), "(8, 8, 3)"),
        ("in.avif", avif_with_exif(exif_with(0x8769)), "cannot decode this file"),
        ("in.avif", avif_with_exif(exif_with(0x8825)), "cannot decode this file"),
    ],
    ids=["texts", "XMP", "EXIF", "GPS"],
)
def test_metadata_does_not_fill_memory(name: str, contents: bytes, found: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(contents)
    done = in_a_process([sys.executable, "-c", WITH_PEAK, tmp_path / name])
    shape, memory = done.stdout.splitlines()
    assert found in shape, done.stderr
    assert int(memory) < 10**8


def test_colours_that_opencv_reads_wrongly_are_refused(tmp_path: Path) -> None:
    PIL.Image.new("LAB", (8, 6), (128, 128, 128)).save(tmp_path / "in.tif")
    with pytest.raises(UnreadableImage, match="CIELAB colours are not supported; convert the image to RGB"):
        read_image(tmp_path / "in.tif")


def test_a_call_that_takes_too_long_is_left_alone() -> None:
    may_end = Event()
    with pytest.raises(TimeoutError):
        bounded(may_end.wait, 0.1)
    assert is_call_left()
    may_end.set()
    while is_call_left():  # otherwise a command that fails in a later test would end this process
        sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", ["image", "train"])
def test_a_file_that_is_decoded_does_not_delay_a_stop(
    command: str, number: signal.Signals, code: int, photographs: Path, tmp_path: Path
) -> None:
    """The decoder sleeps for ten minutes. It is called in another thread, which ends with the process."""
    image = next(photographs.glob("*.jpg"))
    line = {
        "image": ["image", image, "-o", tmp_path / "out.png", "--model", TINY, "--backend", "cpu"],
        "train": ["tiny", "--data", photographs, "--out", tmp_path / "out"],
    }[command]
    program = "caflow_training.cli" if command == "train" else "caflow_deploy.cli"
    with started([sys.executable, "-c", SLOW.format(program=program), *line]) as process:
        assert process.stdout.readline() == "decodes\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
