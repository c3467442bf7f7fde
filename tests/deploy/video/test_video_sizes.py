"""Videos with other sizes than the model's own."""

from pathlib import Path

import numpy as np
import pytest
from clips import ffmpeg, frames_of
from commands import json_lines
from video_runs import video

from caflow_deploy.video.file_source import FileSource
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.linear_light import resample
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.pipeline.stream import Stream, StreamSettings
from caflow_runtime.sizes import Size

FRAMES = 6


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lossless clip of 34×18 pixels."""
    path = tmp_path_factory.mktemp("clips") / "clip.mkv"
    picture = ["-f", "lavfi", "-i", "testsrc2=s=34x18:r=10", "-frames:v", FRAMES]
    ffmpeg(*picture, "-c:v", "ffv1", "-pix_fmt", "bgr0", path)
    return path


@pytest.mark.parametrize(
    ("options", "width", "height"),
    [
        (["--scale", 2], 68, 36),
        (["--scale", 1.5], 52, 28),  # 51 and 27, rounded to even numbers
        (["--scale", 1.5, "--codec", "ffv1"], 51, 27),
        (["--width", 100], 100, 52),
        (["--fit", "101x101"], 100, 52),
        (["--width", 100, "--height", 50], 100, 50),
        (["--scale", 4], 136, 72),
        (["--scale", 5], 170, 90),
        (["--width", 180, "--height", 50], 180, 50),  # one side is enlarged further, the other one reduced
    ],
)
def test_a_video_has_the_size_that_is_wanted(
    clip: Path, calibrated: Path, tmp_path: Path, options: list[object], width: int, height: int
) -> None:
    out = tmp_path / "out.mkv"
    done = video(clip, out, calibrated, "--json", *options)
    assert [size for _, size, _ in frames_of(out)] == [(width, height)] * FRAMES
    of = {line["likelihood_of"]["width"] for line in json_lines(done.stdout) if "likelihood_of" in line}
    assert of == (set() if width == 136 else {136})


@pytest.mark.parametrize("scale", [2, 5])
def test_frames_are_those_of_the_model_resampled(clip: Path, calibrated: Path, scale: int) -> None:
    """Their sample and its likelihood are those before the resampling."""
    images = [frame.image for frame in FileSource(clip).frames()]
    assert all(image.flags.c_contiguous for image in images)  # although FFmpeg pads lines of 34 pixels
    with load(calibrated, "cpu") as pipe:
        plain = list(Stream(pipe, StreamSettings(draw=DrawOptions(2)))(images))
        resized = list(Stream(pipe, StreamSettings(draw=DrawOptions(2), size=Size(scale)))(images))
    for own, other in zip(plain, resized, strict=True):
        np.testing.assert_array_equal(other.pixels, resample(own.pixels, 18 * scale, 34 * scale))
        assert (other.bits_per_dim, other.sample) == (own.bits_per_dim, own.sample)
        assert (own.drawn_sides, other.drawn_sides) == (None, (72, 136))
