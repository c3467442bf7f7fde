"""`caflow video - -o -` and `caflow image - -o -` between FFmpeg processes: results equal those of files."""

import io
import json
import os
import subprocess
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import FFMPEG, ffmpeg, planes_of
from commands import caflow, command, messages
from tiny import photograph

from caflow_deploy.images.image_files import write_image
from caflow_deploy.video.encoding import Encoding
from caflow_deploy.video.file_source import FileSource
from caflow_deploy.video.frame_source import CLOCK, UnreadableVideo, VideoInfo, assumed_colours
from caflow_deploy.video.pipe import PipeSource, PipeWriter
from caflow_deploy.video.sink import SegmentWriter
from caflow_deploy.video.y4m import parse_line
from caflow_runtime.errors import InputError

FRAMES, RATE = 7, "30000/1001"
NTSC = Fraction(30000, 1001)
PICTURE = ["-f", "lavfi", "-i", f"testsrc2=s=32x16:r={RATE}", "-frames:v", FRAMES]
Y4M = ["-strict", "-1", "-f", "yuv4mpegpipe"]
FORMATS = ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "gray"]
TIMEOUT_S = 120
"""Time limit in seconds, so that a process that never ends fails the test instead of blocking it."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lossless clip, so that every way to read it yields equal pixels."""
    path = tmp_path_factory.mktemp("clips") / "clip.mkv"
    ffmpeg(*PICTURE, "-c:v", "ffv1", "-pix_fmt", "yuv420p", path)
    return path


def video(source: object, output: object, bundle: Path, *options: object) -> list[object]:
    """Return the arguments of `caflow video`."""
    return ["video", source, "-o", output, "--model", bundle, "-n", 2, "--threads", 1, *options]


def opened(line: Iterable[object], **options: Any) -> Any:
    """Start a process whose output goes into a pipe."""
    return subprocess.Popen([*map(str, line)], stdout=subprocess.PIPE, **options)


def y4m_of(path: Path) -> bytes:
    return subprocess.run([FFMPEG, "-v", "error", "-i", path, *Y4M, "-"], capture_output=True, check=True).stdout


def source_of(path: Path) -> PipeSource:
    return PipeSource(os.open(path, os.O_RDONLY), "standard input")


def test_a_pipe_between_ffmpegs_gives_the_frames_of_a_file(clip: Path, uncalibrated: Path, tmp_path: Path) -> None:
    """Pixels, number and rate of the frames equal those of a job from file to file. Reports go to standard error."""
    options = ["--codec", "ffv1", "--pixel-format", "yuv420p"]
    caflow(*video(clip, tmp_path / "file.mkv", uncalibrated, *options), code=0)
    middle = command(*video("-", "-", uncalibrated, "--json"))
    with (
        opened([FFMPEG, "-v", "error", "-i", clip, *Y4M, "-"]) as first,
        opened(middle, stdin=first.stdout, stderr=subprocess.PIPE) as second,
        opened(
            [FFMPEG, "-v", "error", "-i", "-", "-c:v", "ffv1", tmp_path / "piped.mkv"], stdin=second.stdout
        ) as third,
    ):
        for process in (first, second):  # so that it ends if its reader ends
            process.stdout.close()
        said = second.stderr.read().decode()
    assert (first.returncode, second.returncode, third.returncode) == (0, 0, 0), said
    assert [json.loads(line)["frame"] for line in messages(said)] == list(range(FRAMES))
    assert planes_of(tmp_path / "piped.mkv") == planes_of(tmp_path / "file.mkv") != b""
    with av.open(str(tmp_path / "piped.mkv")) as container:
        assert container.streams.video[0].average_rate == NTSC


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_each_format_is_read_as_a_file_and_written_as_one(clip: Path, tmp_path: Path, pixel_format: str) -> None:
    """FFmpeg writes the pipe's input and reads its output. The pixels equal those of FFV1 files."""
    ffmpeg("-i", clip, "-vf", f"format={pixel_format}", "-c:v", "ffv1", tmp_path / "in.mkv")
    (tmp_path / "in.y4m").write_bytes(y4m_of(tmp_path / "in.mkv"))
    source, file = source_of(tmp_path / "in.y4m"), FileSource(tmp_path / "in.mkv")
    assert (source.info.rate, source.info.bits, source.info.colour) == (NTSC, file.info.bits, file.info.colour)
    frames, wanted = list(source.frames()), [frame.image for frame in file.frames()]
    assert [frame.ticks for frame in frames] == [round(k / NTSC / CLOCK) for k in range(FRAMES)]
    assert source.ended_early is None
    assert np.array_equal([frame.image for frame in frames], wanted)
    assert len(np.unique(wanted)) > 10
    encoding = Encoding("ffv1", 0, 8, given_format=pixel_format)
    written = SegmentWriter(tmp_path / "out.mkv", 16, 32, source.info, encoding)
    with (tmp_path / "out.y4m").open("wb") as out:
        writer = PipeWriter(out, source.info)
        for frame in frames:
            pixels = (frame.image + np.random.default_rng(0).uniform(0, 1, frame.image.shape)).astype(np.float32)
            writer.write(pixels, frame.ticks)
            written.write(pixels, frame.ticks)
    written.close()
    assert writer.lost == []
    assert planes_of(tmp_path / "out.y4m") == planes_of(tmp_path / "out.mkv") != b""
    with (tmp_path / "out.y4m").open("rb") as out:
        assert parse_line(out.readline()) == source.format


def test_a_part_of_a_file_is_written_to_a_pipe(
    clip: Path, uncalibrated: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    options = ["--codec", "ffv1", "--pixel-format", "yuv420p"]
    caflow(*video(clip, tmp_path / "out.mkv", uncalibrated, *options, "--end", 0.1), code=0)
    capfdbinary.readouterr()
    caflow(*video(clip, "-", uncalibrated, "--end", 0.1), code=0)
    (tmp_path / "out.y4m").write_bytes(capfdbinary.readouterr().out)
    assert planes_of(tmp_path / "out.y4m") == planes_of(tmp_path / "out.mkv") != b""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mkv", "out.y4m"]


def test_a_reader_that_goes_away_ends_the_command(uncalibrated: Path) -> None:
    """The command reports this in one line. The FFmpeg process that feeds it, which would write forever, ends, too."""
    endless = [FFMPEG, "-v", "quiet", "-f", "lavfi", "-i", "testsrc2=s=32x16:r=30", *Y4M, "-"]
    line = command(*video("-", "-", uncalibrated))
    with opened(endless) as first, opened(line, stdin=first.stdout, stderr=subprocess.PIPE) as second:
        first.stdout.close()
        assert second.stdout.read(20).startswith(b"YUV4MPEG2 W128 H64")
        second.stdout.close()
        said = second.stderr.read().decode()
        second.wait(TIMEOUT_S)
        first.wait(TIMEOUT_S)
    assert second.returncode == 1
    (message,) = messages(said)
    assert "the reader of standard output has closed it" in message


def test_an_output_that_is_full_is_a_failure_and_no_wrong_use(clip: Path, uncalibrated: Path) -> None:
    """The exit code is 1 from the first frame on, and 2 before it."""
    with Path("/dev/full").open("wb") as full:
        line = command(*video(clip, "-", uncalibrated))
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    (message,) = messages(done.stderr)
    assert message.startswith("caflow: No space left on device: ")
    caflow(*video(clip, "-", uncalibrated, "--start", 10), code=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"", "expected YUV4MPEG2; got no data: make it with ffmpeg -i IN"),
        (b"\x89PNG\r\n", "expected YUV4MPEG2; got other data: make it with ffmpeg -i IN"),
        (b"YUV4MPEG2 W4 H4 F25:1 C444alpha\n", "its pixel format 444alpha is not supported"),
        (b"YUV4MPEG2 W99999 H99999 F25:1\n", "got 99999×99999"),
        (b"YUV4MPEG2 Wx H4 F25:1\n", "cannot be read: its field W must be a number, such as W640; got Wx"),
        (b"YUV4MPEG2 W4 H4 F-30:1\n", "its field F must be a ratio of positive integers, such as F30:1; got F-30:1"),
        (b"YUV4MPEG2 W4 H4 F25:1\n", "got no complete frame"),
        (b"YUV4MPEG2 W4 H4 F25:1\nFRAME\n12", "got no complete frame"),
    ],
)
def test_other_data_than_yuv4mpeg2_is_refused(tmp_path: Path, given: bytes, message: str) -> None:
    (tmp_path / "in.y4m").write_bytes(given)
    with pytest.raises(UnreadableVideo, match=message):
        list(source_of(tmp_path / "in.y4m").frames())


def test_damaged_data_ends_the_video_with_the_reason(clip: Path, tmp_path: Path) -> None:
    whole = y4m_of(clip)
    third = whole.index(b"FRAME", whole.index(b"FRAME", whole.index(b"FRAME") + 1) + 1)
    (tmp_path / "in.y4m").write_bytes(whole[:third] + b"XRAME" + whole[third + 5 :])
    source = source_of(tmp_path / "in.y4m")
    assert len(list(source.frames())) == 2
    assert source.ended_early == "standard input is damaged after 2 frames: the data that follows is not a frame"


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("-", ["--workers", 2], "-o - does not work with --workers and --ray"),
        ("clip.mkv", ["--codec", "h264"], "not encoded; remove --codec and --preset"),
        ("-", ["--rate", 25], "--rate and --duration do not work with standard input"),
        ("clip.mkv", ["--otherwise", "drop", "--min-typicality", 0.1], "later frames would be shown too early"),
    ],
)
def test_options_that_do_not_fit_pipes_are_refused_in_one_line(
    clip: Path, calibrated: Path, source: str, options: list[object], message: str
) -> None:
    given = clip.with_name(source) if source.endswith(".mkv") else source
    done = caflow(*video(given, "-", calibrated, *options), code=2)
    assert done.stdout == ""
    assert message in done.stderr.splitlines()[-1]


def test_an_image_through_pipes_has_the_bytes_of_a_file(
    photographs: Path, uncalibrated: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Reports go to standard error."""
    write_image(tmp_path / "in.png", photograph(photographs, 0, 24, 32))
    given, common = (tmp_path / "in.png").read_bytes(), ["--model", uncalibrated, "-n", 2, "--threads", 1]
    for suffix, options in ((".png", []), (".webp", ["--format", "webp"])):
        caflow("image", tmp_path / "in.png", "-o", tmp_path / f"out{suffix}", *common, code=0)
        capfdbinary.readouterr()
        caflow("image", "-", "-o", "-", *common, *options, given=given, code=0)
        assert capfdbinary.readouterr().out == (tmp_path / f"out{suffix}").read_bytes()
    caflow("image", "-", "-o", tmp_path / "named.png", *common, given=given, code=0)
    assert (tmp_path / "named.png").read_bytes() == (tmp_path / "out.png").read_bytes()
    alone = subprocess.run(command("image", "-", "-o", "-", *common), input=given, capture_output=True, check=False)
    assert (alone.returncode, alone.stdout) == (0, (tmp_path / "out.png").read_bytes())
    assert "128×96".encode() in alone.stderr.splitlines()[-1]


def test_uneven_times_are_reported_as_lost() -> None:
    info = VideoInfo(None, Fraction(25), 16, 32, 8, assumed_colours(16), None, {})
    for ticks, said in (([0, 3600, 7200], 0), ([0, 3600, 18000], 1)):
        writer = PipeWriter(io.BytesIO(), info)
        for time in ticks:
            writer.write(np.zeros((16, 32, 3), np.float32), time)
        assert len(writer.lost) == said
    with pytest.raises(InputError, match=r"`pixel_format` must be one of gray, .* for standard output; got bgr0"):
        PipeWriter(io.BytesIO(), info, "bgr0")
