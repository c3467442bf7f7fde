"""`caflow video` with parts of a video, numbered images, and other containers, pixel formats, presets and sizes."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from clips import ACCURATE, FRAMES, PICTURE, RATE, ffmpeg, frames_of, packets, pixels_of
from commands import caflow, json_lines
from tiny import stored
from video_runs import LOSSLESS, video

from caflow_deploy.images.image_files import read_image
from caflow_deploy.video import file_source, segments
from caflow_deploy.video.any_source import CutSource
from caflow_deploy.video.file_source import FileSource
from caflow_deploy.video.frame_source import CLOCK, TimeRange
from caflow_deploy.video.numbered import NumberedSource
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.errors import InputError
from caflow_runtime.linear_light import resample
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.pipeline.stream import Stream, StreamSettings
from caflow_runtime.sizes import Size

SECOND = int(1 / CLOCK)


def seconds(packet: Any, what: str) -> float:
    """Return the `pts` or the `duration` of a packet, in seconds."""
    return float(getattr(packet, what) * packet.time_base)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("out.mov", "h264"), ("out.mov", "hevc"), ("out.webm", "vp9"), ("out.webm", "av1"), ("o.mkv", "vp9")],
)
def test_containers_hold_their_codecs(clip: Path, uncalibrated: Path, tmp_path: Path, name: str, codec: str) -> None:
    done = video(clip, tmp_path / name, uncalibrated, "--codec", codec, "--end", 0.3)
    with av.open(str(tmp_path / name)) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == codec
        (sound,) = container.streams.audio
        assert sound.codec_context.name == ("opus" if name.endswith(".webm") else "aac")
        assert len(container.streams.subtitles) == 1
    assert len(frames_of(tmp_path / name)) == 9
    assert ("audio 1 (aac) is converted" in done.stderr) == name.endswith(".webm")


@pytest.mark.parametrize(("start", "end"), [("0.2", None), ("0:00.3", "00:00:00.7"), (None, 0.5), (0.701, 0.9)])
def test_a_part_of_a_video_is_exact(clip: Path, uncalibrated: Path, tmp_path: Path, start: object, end: object) -> None:
    """The frames equal those of the whole video. Sound, subtitles and chapters are cut at the same times."""
    whole, part = tmp_path / "whole.mkv", tmp_path / "part.mkv"
    options = [text for name, value in (("--start", start), ("--end", end)) if value for text in (name, value)]
    video(clip, whole, uncalibrated, *LOSSLESS)
    video(clip, part, uncalibrated, *LOSSLESS, *options)
    first = 0.0 if start is None else float(str(start).split(":")[-1])
    last = 1.0 if end is None else float(str(end).split(":")[-1])
    kept = [k for k in range(FRAMES) if first <= k / RATE < last]
    assert np.array_equal(pixels_of(part, 64, 128), pixels_of(whole, 64, 128)[kept])
    assert np.allclose([time for time, _, _ in frames_of(part)], [k / RATE - first for k in kept], atol=0.002)
    sound = packets(clip, "audio")
    assert set(packets(part, "audio")) < set(sound)
    assert len(packets(part, "audio")) == pytest.approx(len(sound) * (last - first), abs=2)
    with av.open(str(part)) as container:
        titles = [chapter["metadata"]["title"] for chapter in container.chapters()]
        assert titles == ["one"] * (first < 0.4) + ["two"] * (last > 0.4)
        found = [(packet.stream.type, packet) for packet in container.demux() if packet.size]
    sounds, words = ([packet for kind, packet in found if kind == wanted] for wanted in ("audio", "subtitle"))
    assert 0 <= seconds(sounds[0], "pts") < 0.03
    shown = [(seconds(word, "pts"), seconds(word, "duration"), bytes(word)) for word in words]
    wanted = [
        (max(0, a - first), min(b, last) - max(a, first), text)
        for a, b, text in ((0.1, 0.5, b"Hello"), (0.6, 0.9, b"World"))
        if b > first and a < last
    ]
    assert [text for *_, text in shown] == [text for *_, text in wanted]
    assert np.allclose([x[:2] for x in shown], [x[:2] for x in wanted], atol=0.002)


def test_a_part_far_from_the_start_is_sought(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_source, "SOUGHT_EARLIER_S", Fraction(1, 5))
    ffmpeg("-i", clip, "-c", "copy", "-sn", tmp_path / "clip.mp4")
    for path in (clip, tmp_path / "clip.mp4"):
        every = list(FileSource(path).frames())
        source = FileSource(path)
        source.seek_before(source.info.origin + 7 * SECOND // 10)
        assert next(source.frames()).ticks > every[0].ticks
        found = list(CutSource(FileSource(path), TimeRange(7 * SECOND // 10)).frames())
        assert [frame.ticks for frame in found] == [frame.ticks for frame in every[-len(found) :]]
        assert np.array_equal([frame.image for frame in found], [frame.image for frame in every[-len(found) :]])
        assert len(found) == 9


@pytest.mark.parametrize(
    ("pixel_format", "codec"),
    [("yuv444p", "h264"), ("yuv422p10le", "hevc"), ("yuv420p10le", "h264"), ("yuv444p", "vp9"), ("gbrp12le", "ffv1")],
)
def test_pixel_formats_are_kept(clip: Path, uncalibrated: Path, tmp_path: Path, pixel_format: str, codec: str) -> None:
    """The colours are close to those of lossless RGB in FFV1."""
    options = ["--codec", codec, "--pixel-format", pixel_format, "--end", 0.2]
    video(clip, tmp_path / "out.mkv", uncalibrated, *options, "--crf", 4)
    assert {name for *_, name in frames_of(tmp_path / "out.mkv")} == {pixel_format}
    video(clip, tmp_path / "rgb.mkv", uncalibrated, *LOSSLESS, "--end", 0.2)
    found, wanted = (pixels_of(tmp_path / name, 64, 128).astype(int) for name in ("out.mkv", "rgb.mkv"))
    assert np.abs(found - wanted).mean() < (5 if pixel_format.startswith("yuv42") else 2)


def test_a_part_resumes_with_the_same_settings(
    clip: Path, uncalibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the error names the difference."""

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    output, own = tmp_path / "out.mp4", ["--start", 0.2, "--preset", "fast", "--pixel-format", "yuv444p"]
    with monkeypatch.context() as changed:
        changed.setattr(segments, "write_result", fail)
        done = video(clip, output, uncalibrated, *own, code=1)
    assert "the disk is full; the finished part is in" in done.stderr
    for options, differing in (
        (["--start", 0.3], "--start has changed"),
        (["--end", 0.9], "--end has changed"),
        (["--preset", "slow"], "--preset fast (now slow)"),
        (["--pixel-format", "yuv420p"], "--pixel-format yuv444p (now yuv420p)"),
    ):
        refused = video(clip, output, uncalibrated, *own, *options, code=2)
        assert differing in refused.stderr
    video(clip, output, uncalibrated, *own)
    assert len(frames_of(output)) == 24
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "gif"])
def test_relative_names_with_a_colon_are_files(
    clip: Path, uncalibrated: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg would take `2024-01-01T12` for a protocol."""
    monkeypatch.chdir(tmp_path)
    name = "2024-01-01T12:30:00.mkv"
    (tmp_path / name).write_bytes(clip.read_bytes())
    for options in ([], ["--workers", 1, "--segment-frames", 6, "--force"]):
        video(name, f"2024-01-01T12:31:00.{suffix}", uncalibrated, "--end", 0.5, *options)
        assert len(frames_of(tmp_path / f"2024-01-01T12:31:00.{suffix}")) == 15


def test_workers_write_the_same_part_of_a_video(clip: Path, uncalibrated: Path, tmp_path: Path) -> None:
    times = ["--start", 0.2, "--end", 0.8, "--segment-frames", 7]
    video(clip, tmp_path / "one.mkv", uncalibrated, *LOSSLESS, *times)
    video(clip, tmp_path / "two.mkv", uncalibrated, *LOSSLESS, *times, "--workers", 1)
    for kind in ("video", "audio"):
        assert packets(tmp_path / "two.mkv", kind) == packets(tmp_path / "one.mkv", kind) != []


SMALL_FRAMES = 6


@pytest.fixture(scope="module")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lossless clip of 34×18 pixels."""
    path = tmp_path_factory.mktemp("clips") / "clip.mkv"
    picture = ["-f", "lavfi", "-i", "testsrc2=s=34x18:r=10", "-frames:v", SMALL_FRAMES]
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
    small_clip: Path, calibrated: Path, tmp_path: Path, options: list[object], width: int, height: int
) -> None:
    out = tmp_path / "out.mkv"
    done = video(small_clip, out, calibrated, "--json", *options)
    assert [size for _, size, _ in frames_of(out)] == [(width, height)] * SMALL_FRAMES
    of = {line["likelihood_of"]["width"] for line in json_lines(done.stdout) if "likelihood_of" in line}
    assert of == (set() if width == 136 else {136})


@pytest.mark.parametrize("scale", [2, 5])
def test_frames_are_those_of_the_model_resampled(small_clip: Path, calibrated: Path, scale: int) -> None:
    """Their sample and its likelihood are those before the resampling."""
    images = [frame.image for frame in FileSource(small_clip).frames()]
    assert all(image.flags.c_contiguous for image in images)  # although FFmpeg pads lines of 34 pixels
    with load(calibrated, "cpu") as pipe:
        plain = list(Stream(pipe, StreamSettings(draw=DrawOptions(2)))(images))
        resized = list(Stream(pipe, StreamSettings(draw=DrawOptions(2), size=Size(scale)))(images))
    for own, other in zip(plain, resized, strict=True):
        np.testing.assert_array_equal(other.pixels, resample(own.pixels, 18 * scale, 34 * scale))
        assert (other.bits_per_dim, other.sample) == (own.bits_per_dim, own.sample)
        assert (own.drawn_sides, other.drawn_sides) == (None, (72, 136))


def test_numbered_images_have_the_frames_of_a_video(clip: Path, uncalibrated: Path, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    ffmpeg("-i", clip, *ACCURATE, "-start_number", 8, tmp_path / "frames" / "%03d.png")
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


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mp4"])
def test_two_runs_write_the_same_bytes(suffix: str, clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / f"{k}{suffix}" for k in range(2)]
    for output in outputs:
        video(clips / "words.mkv", output, uncalibrated, code=0)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
