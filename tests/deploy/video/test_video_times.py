"""Times of results: sources whose clock starts late or starts again, and sound that ends with the picture."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import SOUND, ffmpeg
from commands import messages
from video_runs import video

from caflow_deploy.commands.video_progress import FrameProgress
from caflow_deploy.video.job import where_resumed

PICTURE = ["-f", "lavfi", "-i", "testsrc2=s=32x16:r=25:d=1"]
RATE, FRAMES = 25, 25
AAC_FRAME_S = 1024 / 48000


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MPEG-TS of a second, with B-frames and sound, whose clock begins at 1.4 s."""
    path = tmp_path_factory.mktemp("recording") / "a.ts"
    ffmpeg(*PICTURE, *SOUND, "-c:v", "libx264", "-bf", 3, "-c:a", "aac", path)
    return path


def later(path: Path, start_s: float) -> Path:
    """Return a copy of an MPEG-TS file whose clock begins `start_s` seconds later."""
    moved = path.with_name(f"{start_s}.ts")
    ffmpeg("-i", path, "-c", "copy", "-output_ts_offset", start_s, moved)
    return moved


def times_of(path: Path, kind: str) -> list[float]:
    """Return the presentation times of all packets of a kind, such as `audio`, in seconds and in rising order."""
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        packets: list[Any] = [packet for packet in container.demux(streams) if packet.size]
        return sorted(float(packet.pts * packet.time_base) for packet in packets if packet.pts is not None)


@pytest.mark.parametrize("starts", [(0, 0, 0), (3600, 0), (0, 3600)], ids=["again", "earlier", "later"])
@pytest.mark.parametrize("options", [[], ["--workers", 1, "--segment-frames", 20]], ids=["one", "worker"])
def test_a_clock_that_starts_again_continues(
    recording: Path, uncalibrated: Path, tmp_path: Path, starts: tuple[int, ...], options: list[object]
) -> None:
    """Pictures and sound follow each other without gaps, and stay in step, as after `ffmpeg -c copy`."""
    pieces = [later(recording, start) if start else recording for start in starts]
    source, output = tmp_path / "joined.ts", tmp_path / "out.mp4"
    source.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    assert messages(video(source, output, uncalibrated, *options).stderr) == []
    pictures, sounds = times_of(output, "video"), times_of(output, "audio")
    assert len(pictures) == FRAMES * len(starts)
    assert np.diff(pictures) == pytest.approx(1 / RATE, abs=0.002)
    assert np.diff(sounds) == pytest.approx(AAC_FRAME_S, abs=AAC_FRAME_S / 2)
    ffmpeg("-i", recording, "-c", "copy", tmp_path / "one.mp4")
    lags = [times_of(path, "audio")[0] - times_of(path, "video")[0] for path in (output, tmp_path / "one.mp4")]
    assert lags[0] == pytest.approx(lags[1], abs=0.002)
    ends = [times_of(path, "audio")[-1] - times_of(path, "video")[-1] for path in (output, tmp_path / "one.mp4")]
    assert ends[0] == pytest.approx(ends[1], abs=0.03)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_late_recording_begins_at_once(recording: Path, uncalibrated: Path, tmp_path: Path, suffix: str) -> None:
    """Pictures, sound, subtitles and chapters begin as `ffmpeg -c copy` lets them."""
    (tmp_path / "words.srt").write_text("1\n01:00:01,900 --> 01:00:02,300\nHello\n")
    chapter = "[CHAPTER]\nTIMEBASE=1/1000\nSTART=3601600\nEND=3602000\ntitle=one\n"
    (tmp_path / "chapters.txt").write_text(f";FFMETADATA1\n{chapter}")
    source, wanted, output = tmp_path / "late.mkv", tmp_path / f"wanted.{suffix}", tmp_path / f"out.{suffix}"
    inputs = ["-i", later(recording, 3600), "-i", tmp_path / "words.srt", "-i", tmp_path / "chapters.txt"]
    ffmpeg("-copyts", *inputs, "-map", 0, "-map", 1, "-map_chapters", 2, "-c", "copy", "-c:s", "srt", source)
    ffmpeg("-i", source, "-map", 0, "-c", "copy", "-c:s", "srt" if suffix == "mkv" else "mov_text", wanted)
    video(source, output, uncalibrated)
    for kind in ("video", "audio", "subtitle"):
        found = times_of(output, kind)
        assert found[0] < 1
        assert found[0] == pytest.approx(times_of(wanted, kind)[0], abs=0.002)
    chapters = []
    for path in (output, wanted):
        with av.open(str(path)) as container:
            chapters.append([float(one["start"] * Fraction(one["time_base"] or 0)) for one in container.chapters()])
    assert chapters[0] == pytest.approx(chapters[1], abs=0.002)
    assert len(chapters[0]) == 1


@pytest.mark.parametrize("stop", [MemoryError(), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("size", [5, 240])
def test_sound_ends_with_the_picture_of_a_stopped_video(
    recording: Path, uncalibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException, size: int
) -> None:
    """The command fails, also with an error without a message, and says where it resumes. Then the result is whole."""

    def stop_after_12(_: FrameProgress, done: int) -> None:
        if done == 12:
            raise stop

    output, is_failure = tmp_path / "out.mp4", isinstance(stop, MemoryError)
    with monkeypatch.context() as changed:
        changed.setattr(FrameProgress, "done", stop_after_12)
        code = 1 if is_failure else 130
        said = video(recording, output, uncalibrated, "--segment-frames", size, code=code).stderr
    assert ("drawing failed: MemoryError; " in said) == is_failure
    assert f"{output} contains 12 frames; the same command {where_resumed(12 // size * size)}\n" in said
    pictures = times_of(output, "video")
    assert len(pictures) == 12
    assert times_of(output, "audio")[-1] == pytest.approx(pictures[-1] + 1 / RATE, abs=2 * AAC_FRAME_S)
    assert messages(video(recording, output, uncalibrated, "--segment-frames", size).stderr) == []
    assert len(times_of(output, "video")) == FRAMES
    assert len(times_of(output, "audio")) == len(times_of(recording, "audio"))


def test_pictures_before_time_0_are_kept(recording: Path, uncalibrated: Path, tmp_path: Path) -> None:
    """The clock of MPEG-TS returns to 0 after 26 hours. FFmpeg gives the times before that as negative numbers."""
    source, output = later(recording, 95_441.9), tmp_path / "out.mp4"
    with av.open(str(source)) as container:
        assert (container.start_time or 0) < 0
    video(source, output, uncalibrated)
    pictures = times_of(output, "video")
    assert np.diff(pictures) == pytest.approx(1 / RATE, abs=0.002)
    assert len(pictures) == FRAMES


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_subtitles_before_pictures_are_dropped(
    recording: Path, uncalibrated: Path, tmp_path: Path, suffix: str
) -> None:
    """The others keep their times."""
    source, output = tmp_path / "source.mkv", tmp_path / f"out.{suffix}"
    gone = "1\n00:00:01,000 --> 00:00:02,000\nGone\n\n"
    (tmp_path / "words.srt").write_text(f"{gone}2\n00:00:11,700 --> 00:00:12,000\nHere\n")
    inputs = ["-i", later(recording, 10), "-i", tmp_path / "words.srt"]
    ffmpeg("-copyts", *inputs, "-map", 0, "-map", 1, "-c", "copy", "-c:s", "srt", source)
    with av.open(str(source)) as container:
        start = (container.streams.video[0].start_time or 0) * (container.streams.video[0].time_base or 0)
    video(source, output, uncalibrated)
    assert times_of(output, "video")[0] < 0.1
    words = tmp_path / "found.srt"
    ffmpeg("-i", output, words)
    assert "Gone" not in words.read_text()
    with av.open(str(words)) as container:
        line: Any = next(container.demux())
    assert float(line.pts * line.time_base) == pytest.approx(11.7 - float(start), abs=0.1)
