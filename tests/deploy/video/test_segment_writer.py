"""Encoded segments: their frames are counted and timed, and their codec must be able to hold them."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from clips import ffmpeg, frames_of, packets
from numpy.typing import NDArray
from video_runs import video

from caflow_deploy.video.encoding import Encoding
from caflow_deploy.video.file_source import FileSource
from caflow_deploy.video.frame_source import UnwritableVideo, VideoInfo
from caflow_deploy.video.join import SegmentPart, count_frames, join_what_fits
from caflow_deploy.video.sink import SegmentWriter
from caflow_deploy.video.thread_scheduling import TASKS
from caflow_runtime.backends.gpu import has_gpu

Frames = list[NDArray[np.float32]]


def write(path: Path, info: VideoInfo, encoding: Encoding, frames: Frames, start: int = 0) -> SegmentPart:
    """Write a segment with 30 frames per second."""
    height, width, _ = frames[0].shape
    writer = SegmentWriter(path, height, width, info, encoding)
    for k, pixels in enumerate(frames):
        writer.write(pixels, start + 3000 * k)
    writer.close()
    return SegmentPart(path, start, len(frames))


def greys(count: int) -> Frames:
    return [np.full((64, 64, 3), 10 * k, np.float32) for k in range(count)]


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "ffv1"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_every_frame_is_counted(clips: Path, tmp_path: Path, codec: Any, suffix: str) -> None:
    """The count does not depend on how a codec orders and packs its frames."""
    if codec == "ffv1" and suffix == ".mp4":
        pytest.skip("MP4 files cannot contain FFV1")
    info, encoding = FileSource(clips / "vfr.mp4").info, Encoding(codec, 18, 8)
    moving = np.random.default_rng(0).uniform(0, 255, (64, 64, 3)).astype(np.float32)
    path = tmp_path / f"segment{encoding.segment_suffix}"
    part = write(path, info, encoding, [np.roll(moving, 3 * k, 1) for k in range(50)])
    threads = [int(task.name) for task in TASKS.iterdir()] if TASKS.is_dir() else []
    assert {os.sched_getscheduler(thread) for thread in threads} <= {os.SCHED_OTHER}  # as root, SVT-AV1 changes them
    join_what_fits([part], tmp_path / f"joined{suffix}", None, info)
    assert count_frames(path) == count_frames(tmp_path / f"joined{suffix}") == 50
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert count_frames(path) < 50


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("preset", [None, "ultrafast"])
def test_a_few_frames_of_hevc_have_decoding_times(clips: Path, tmp_path: Path, frames: int, preset: str | None) -> None:
    """x265 returns random times for one or two frames, with which writing fails most of the time."""
    info, encoding = FileSource(clips / "vfr.mp4").info, Encoding("hevc", 18, 8, preset=preset)
    for _ in range(8):
        write(tmp_path / "segment.mp4", info, encoding, greys(frames))
        times = [seconds for seconds, _, _ in frames_of(tmp_path / "segment.mp4")]
        assert times == pytest.approx([k / 30 for k in range(frames)])


@pytest.mark.skipif(has_gpu(), reason="this test is for machines without a GPU")
def test_nvenc_without_a_gpu_is_refused(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    done = video(clips / "vfr.mp4", tmp_path / "out.mp4", uncalibrated, "--encoder", "nvenc", code=2)
    assert "--encoder nvenc: NVENC cannot encode h264 of 128×64 here" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="os.sched_setaffinity is only available on Linux")
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_machine_with_fewer_cores_writes_the_same(clips: Path, tmp_path: Path, codec: Any) -> None:
    info = FileSource(clips / "vfr.mp4").info
    picture = cv2.resize(next(iter(FileSource(clips / "vfr.mp4").frames())).image, (256, 256)).astype(np.float32)

    def write_on(cores: set[int], name: str) -> None:
        os.sched_setaffinity(0, cores)
        write(tmp_path / name, info, Encoding(codec, 18, 8), [np.roll(picture, 5 * k, 1) for k in range(20)])

    cores = os.sched_getaffinity(0)
    with ThreadPoolExecutor(1) as thread:  # so that only this thread's cores change
        thread.submit(write_on, cores, "all.mp4").result()
        thread.submit(write_on, {min(cores)}, "one.mp4").result()
    assert packets(tmp_path / "one.mp4", "video") == packets(tmp_path / "all.mp4", "video") != []


def test_the_same_frames_are_encoded_to_the_same_bytes(tmp_path: Path) -> None:
    """With AVX-512, x264 encodes wide frames in two or more ways, each some of the time."""
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x240:r=30", "-frames:v", 10, tmp_path / "source.mkv")
    source = FileSource(tmp_path / "source.mkv")
    frames = [frame.image.astype(np.float32) for frame in source.frames()]
    encoded = set()
    for _ in range(8):
        write(tmp_path / "segment.mp4", source.info, Encoding("h264", 18, 8), frames)
        encoded.add((tmp_path / "segment.mp4").read_bytes())
    assert len(encoded) == 1


def test_the_number_of_joined_frames_is_checked(clips: Path, tmp_path: Path) -> None:
    info, folder = FileSource(clips / "vfr.mp4").info, tmp_path
    parts = [write(folder / f"{k}.mp4", info, Encoding("h264", 18, 8), greys(6), start=18000 * k) for k in range(2)]
    assert join_what_fits(parts, folder / "both.mp4", None, info) == []
    assert count_frames(folder / "both.mp4") == len(frames_of(folder / "both.mp4")) == 12
    with pytest.raises(UnwritableVideo, match="13 frames were joined, but the file contains 12"):
        join_what_fits([parts[0], parts[1]._replace(frames=7)], folder / "both.mp4", None, info)


def test_a_frame_that_the_codec_cannot_hold_is_no_job_to_resume(uncalibrated: Path, tmp_path: Path) -> None:
    """Every attempt would fail in the same way."""
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=2x2:r=30:d=0.2", "-c:v", "ffv1", tmp_path / "tiny.mkv")
    done = video(tmp_path / "tiny.mkv", tmp_path / "out.mp4", uncalibrated, "--codec", "hevc", code=2)
    assert "libx265 cannot encode frames of 8×8" in done.stderr
    assert "use another --codec" in done.stderr
    assert "resume" not in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "tiny.mkv"]
