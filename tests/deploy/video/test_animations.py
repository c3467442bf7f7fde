"""Animated GIF, PNG and WebP in `caflow video`: frames, their durations, transparency and the number of loops."""

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import PIL.Image
import PIL.ImageSequence
import pytest
from clips import ffmpeg, pixels_of
from commands import messages
from numpy.typing import NDArray
from video_runs import video

from caflow_deploy.images.alpha import draw_alpha
from caflow_deploy.video.animation import AnimationSource
from caflow_deploy.video.frame_source import UnreadableVideo
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.pipeline.pipeline import load

DURATIONS = [100, 30, 250, 40, 500]
"""Duration of each frame, in milliseconds."""
NAMES = ["a.gif", "a.png", "a.webp"]


def pictures() -> list[NDArray[np.uint8]]:
    """Return frames with moving colours, few enough for a palette."""
    ramp = np.add.outer(np.arange(16), np.arange(32))
    return [
        np.stack([(ramp + 7 * k) % 32 * 8, ramp % 4 * 60, np.full_like(ramp, 40 * k)], 2).astype(np.uint8)
        for k in range(len(DURATIONS))
    ]


@pytest.fixture(scope="module")
def animations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the same frames in three formats, each of which plays three times."""
    folder = tmp_path_factory.mktemp("animations")
    first, *others = [PIL.Image.fromarray(picture) for picture in pictures()]
    for name, loop in (("a.gif", 2), ("a.png", 3), ("a.webp", 3)):
        options: dict[str, Any] = {"duration": DURATIONS, "loop": loop, "lossless": True}
        first.save(folder / name, save_all=True, append_images=others, **options)
    return folder


def shown(path: Path) -> tuple[list[int], int, list[Any]]:
    """Return the duration of each frame in milliseconds, the loop count of the file, and the frames, by Pillow."""
    durations, images = [], []
    with PIL.Image.open(path) as file:
        for frame in PIL.ImageSequence.Iterator(file):
            images.append(np.asarray(frame.convert("RGBA")))
            durations.append(round(file.info["duration"]))
        return durations, file.info.get("loop", -1), images


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output", ["out.gif", "out.png", "out.webp"])
def test_durations_and_loops_stay(animations: Path, uncalibrated: Path, tmp_path: Path, name: str, output: str) -> None:
    """The frames are those of a lossless video, as far as a format allows."""
    done = video(animations / name, tmp_path / output, uncalibrated)
    assert messages(done.stderr) == []
    durations, loop, images = shown(tmp_path / output)
    assert durations == DURATIONS
    assert loop == (2 if output == "out.gif" else 3)  # GIF counts repetitions, the others count plays
    video(animations / name, tmp_path / "out.mkv", uncalibrated, "--codec", "ffv1")
    wanted = pixels_of(tmp_path / "out.mkv", 64, 128)
    off = np.abs(np.subtract(np.stack(images)[..., :3], wanted.astype(int))).mean()
    assert off == 0 if output == "out.png" else off < 14
    assert not (tmp_path / f"{output}.segments").exists()


def test_a_gif_omits_frames_beyond_50_per_second(uncalibrated: Path, tmp_path: Path) -> None:
    """Browsers show very short frames of a GIF for a tenth of a second. So a GIF has at most 50 frames per second, and
    a message reports how many are omitted."""
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=32x16:r=100:d=0.2", "-c:v", "ffv1", tmp_path / "fast.mkv")
    done = video(tmp_path / "fast.mkv", tmp_path / "out.gif", uncalibrated)
    assert "10 frames are omitted: a GIF can show at most 50 frames per second" in done.stderr
    assert shown(tmp_path / "out.gif")[0] == [20] * 10


def disc_on_green() -> list[PIL.Image.Image]:
    """Return frames of a growing, opaque, red disc. The transparent pixels around it are green."""
    images = []
    for radius in (4, 6, 7):
        alpha = np.zeros((16, 16), np.uint8)
        cv2.circle(alpha, (8, 8), radius, 255, -1)
        rgb = np.where(alpha[..., None] > 0, (220, 40, 30), (0, 255, 0)).astype(np.uint8)
        images.append(PIL.Image.fromarray(np.dstack([rgb, alpha])))
    return images


def rgba_of(path: Path) -> NDArray[np.uint8]:
    """Return all frames, (frames, H, W, 4) uint8.

    GIF and WebP are read with Pillow. PNG is read with FFmpeg, because Pillow squares the alpha of frames that are
    blended with the last frame.
    """
    if path.suffix == ".png":
        with av.open(str(path)) as container:
            return np.stack([frame.to_ndarray(format="rgba") for frame in container.decode(video=0)])
    return np.stack(shown(path)[2])


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a transparent animation in three formats."""
    folder = tmp_path_factory.mktemp("discs")
    first, *others = disc_on_green()
    for name in NAMES:
        first.save(folder / name, save_all=True, append_images=others, duration=100, disposal=2, lossless=True)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_transparency_is_kept_without_a_fringe(discs: Path, uncalibrated: Path, tmp_path: Path, name: str) -> None:
    """Each frame has the alpha that an image would have, and no green fringe. In a GIF, alpha is either 0 or 255."""
    output = tmp_path / name
    video(discs / name, output, uncalibrated)
    found = rgba_of(output)
    assert found.shape == (3, 64, 64, 4)
    small = [np.asarray(image)[..., 3] for image in disc_on_green()]
    with load(uncalibrated, backend="cpu") as pipe:
        wanted = np.stack([draw_alpha(pipe, alpha, DrawOptions(1)) for alpha in small])
    if name == "a.gif":
        np.testing.assert_array_equal(found[..., 3], np.where(wanted >= 128, 255, 0))
    else:
        np.testing.assert_array_equal(found[..., 3], wanted)
    seen = found[found[..., 3] > 0].astype(int)
    assert (seen[:, 1] < seen[:, 0]).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_animation_yields_the_frames_before_the_damage(animations: Path, tmp_path: Path, name: str) -> None:
    contents = (animations / name).read_bytes()
    (tmp_path / name).write_bytes(contents[: len(contents) * 2 // 3])
    if name == "a.webp":  # its decoder requires the whole file
        with pytest.raises(UnreadableVideo, match="is damaged at frame 1"):
            AnimationSource(tmp_path / name)
        return
    source = AnimationSource(tmp_path / name)
    assert len(list(source.frames())) < len(DURATIONS)
    assert f"{tmp_path / name} is damaged at frame " in (source.ended_early or "")
