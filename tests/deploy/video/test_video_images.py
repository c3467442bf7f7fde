"""`caflow video` with images: numbered ones as input or output, and previews of one frame."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import FRAMES, PICTURE, ffmpeg, frames_of, pixels_of
from commands import caflow
from tiny import stored
from video_runs import LOSSLESS, video

from caflow_deploy.images.image_files import read_image
from caflow_deploy.video.numbered import NumberedSource
from caflow_runtime.errors import InputError


def test_numbered_images_have_the_frames_of_a_video(clip: Path, uncalibrated: Path, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    ffmpeg("-i", clip, "-start_number", 8, tmp_path / "frames" / "%03d.png")
    rate = Fraction(24000, 1001)
    video(clip, tmp_path / "file.mkv", uncalibrated, *LOSSLESS)
    video(tmp_path / "frames/%03d.png", tmp_path / "a.mkv", uncalibrated, *LOSSLESS, "--rate", rate)
    wanted = pixels_of(tmp_path / "file.mkv", 64, 128)
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert container.streams.video[0].average_rate == rate
    assert np.array_equal(pixels_of(tmp_path / "a.mkv", 64, 128), wanted)
    done = video(clip, tmp_path / "out/%d.png", uncalibrated)
    assert "audio is omitted" in done.stderr
    written = [read_image(tmp_path / "out" / f"{k}.png").rgb for k in range(1, FRAMES + 1)]
    assert np.array_equal(written, wanted)
    assert len(list((tmp_path / "out").iterdir())) == FRAMES
    again = video(tmp_path / "frames/%03d.png", tmp_path / "out/%d.png", uncalibrated, "--end", 0.4, code=2)
    assert "already exists; use --force" in again.stderr
    video(tmp_path / "frames/%03d.png", tmp_path / "out/%d.png", uncalibrated, "--end", 0.4, "--force")
    assert len(list((tmp_path / "out").iterdir())) == 10  # images of the longer result are removed


@pytest.mark.parametrize(("channels", "suffix"), [(3, ".tif"), (4, ".png")])
def test_numbered_images_keep_16_bits(uncalibrated: Path, tmp_path: Path, channels: int, suffix: str) -> None:
    """The 16 bits come from the continuous result, as for single images. Formats with 8 bits get 8 bits."""
    deep = np.random.default_rng(0).integers(0, 65536, (8, 12, channels), np.uint16)
    for number in (1, 2):
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), deep)
    video(tmp_path / "%d.png", tmp_path / f"large/%d{suffix}", uncalibrated)
    caflow("image", tmp_path / "1.png", "-o", tmp_path / f"one{suffix}", "-n", 1, "--model", uncalibrated, code=0)
    wanted = stored(tmp_path / f"one{suffix}")
    assert wanted.dtype == np.uint16
    for number in (1, 2):
        np.testing.assert_array_equal(stored(tmp_path / f"large/{number}{suffix}"), wanted)
    if channels == 3:
        video(tmp_path / "%d.png", tmp_path / "small/%d.jpg", uncalibrated)
        assert read_image(tmp_path / "small/1.jpg").bits == 8


def test_a_missing_number_ends_the_video(clip: Path, uncalibrated: Path, tmp_path: Path) -> None:
    ffmpeg("-i", clip, "-frames:v", 6, tmp_path / "%d.png")
    (tmp_path / "4.png").unlink()
    (tmp_path / "04.png").touch()  # another name, not number 4
    done = video(tmp_path / "%d.png", tmp_path / "out.mkv", uncalibrated, code=1)
    assert "4.png is missing, but later images exist" in done.stderr
    assert len(frames_of(tmp_path / "out.mkv")) == 3
    with pytest.raises(InputError, match=r"there are no such images; the first would be .*0001\.jpg"):
        NumberedSource(tmp_path / "%04d.jpg")


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("%02d.png", "%d.png"),  # both patterns have 10.png
        ("%02d.png", "../frames/%d.png"),
        ("%02d.png", "linked/%d.png"),
        ("%02d.png", "10.png"),
        ("30.png", "%d.png"),  # an animation
    ],
)
def test_the_input_is_never_overwritten(uncalibrated: Path, tmp_path: Path, source: str, output: str) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "linked").symlink_to(folder)
    ffmpeg(*PICTURE, "-frames:v", 12, folder / "%02d.png")
    ffmpeg(*PICTURE, "-frames:v", 3, "-f", "apng", folder / "30.png")
    before = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    done = video(folder / source, folder / output, uncalibrated, "--force", code=2)
    assert "is the input file, or one of its images; choose another -o" in done.stderr
    assert {path.name: path.read_bytes() for path in folder.glob("*.png")} == before
