"""Live sources on the loopback address: reconnection, timestamps, and frames that arrive too fast."""

import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import FFMPEG, ffmpeg, frames_of, packets
from commands import caflow, command, in_a_process, json_lines, started
from ports import free_port, listening, serving_files
from video_jobs import video_job

from caflow_deploy.serving.metrics import Metrics
from caflow_deploy.video.file_source import FileSource
from caflow_deploy.video.frame_source import TimedFrame, UnreadableVideo
from caflow_deploy.video.live import LiveClock, LiveSource
from caflow_deploy.video.opening import without_secrets
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.pipeline.stream import Frame

SERVER = Path(__file__).with_name("rtsp_server.py")
SYSTEM_PYTHON = "/usr/bin/python3"
PICTURE = ["-re", "-f", "lavfi", "-i", "testsrc2=s=64x32:r=25"]
H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", 15]
TRANSPORT_STREAM = [*PICTURE, *H264, "-f", "mpegts"]
TIMEOUT_S = 180
"""Timeout in seconds, so that a command that never ends fails the test instead of blocking it."""


@contextlib.contextmanager
def server(port: int, *line: object) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a server in a separate process, and wait until it listens: connecting could use up its only client."""
    with subprocess.Popen([*map(str, line)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not listening(port):
                assert process.poll() is None
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def serving(*arguments: object) -> Iterator[str]:
    """Start FFmpeg as the server of a stream for a single client; yield its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}/live"
    with server(port, FFMPEG, "-v", "error", *arguments, "-listen", 1, address):
        yield address


def caflow_video(uncalibrated: Path, source: object, *options: object) -> Any:
    return in_a_process(command("video", source, "--model", uncalibrated, "-n", 1, *options), timeout=TIMEOUT_S)


def test_timestamps_of_a_source_that_keeps_pace_are_used() -> None:
    clock = LiveClock(believed=True)
    late = [0.0, 0.3, 0.1, 0.0, 0.9]
    ticks = [clock.ticks(7 + k / 25, 100 + k / 25 + late[k]) for k in range(5)]
    assert np.diff(ticks).tolist() == [3600] * 4
    clock.reconnect()
    assert clock.ticks(0.0, 110.0) == 10 * 90_000


def test_timestamps_of_a_source_that_runs_too_fast_are_replaced() -> None:
    clock = LiveClock(believed=True)
    ticks = np.array([clock.ticks(k / 25, k / 10) for k in range(200)])
    assert np.all(np.diff(ticks) > 0)
    assert not clock.believed
    np.testing.assert_array_equal(np.diff(ticks)[100:], 9000)
    assert LiveClock(believed=False).ticks(5.0, 1.0) == 0


def test_after_a_stall_the_timestamps_of_the_source_are_used_again() -> None:
    """After a stall of 5 s, late frames get late timestamps, and then the source's own timestamps are used again."""
    clock = LiveClock(believed=True)
    said = np.arange(0, 100, 0.04)
    came = np.where(said < 60, said, said + 5) + np.where(np.arange(len(said)) % 2, 0.015, 0.0)
    ticks = np.array([clock.ticks(*pair) for pair in zip(said, came, strict=True)])
    assert clock.believed
    steps = np.diff(ticks)
    assert np.all(steps[said[1:] < 59] == 3600)
    assert np.all(steps[said[1:] > 61] == 3600)
    assert abs(ticks[-1] / 90_000 - came[-1]) < 0.1


def test_a_stream_is_recorded_for_the_requested_duration(uncalibrated: Path, tmp_path: Path) -> None:
    with serving(*TRANSPORT_STREAM) as address:
        done = caflow_video(uncalibrated, address, "-o", tmp_path / "out.mp4", "--duration", 2, "--json")
    assert done.returncode == 0, done.stderr
    log = json_lines(done.stdout)
    times = [seconds for seconds, *_ in frames_of(tmp_path / "out.mp4")]
    assert len(times) == len(log) > 0
    assert times[-1] < 2  # the last time depends on the speed of the machine; the stream itself has no end
    np.testing.assert_allclose(times, [entry["seconds"] for entry in log], atol=1e-4)
    assert all(entry["latency"] >= 0 for entry in log)
    assert list(tmp_path.iterdir()) == [tmp_path / "out.mp4"]


@pytest.mark.parametrize("options", [[], ["--duration", "60"], ["--duration", "5", "--patience", "60"]])
def test_the_recording_of_a_lost_stream_is_kept(uncalibrated: Path, tmp_path: Path, options: list[str]) -> None:
    with serving("-t", 3, *TRANSPORT_STREAM) as address:
        done = caflow_video(uncalibrated, address, "-o", tmp_path / "out.mp4", "--patience", 1, *options)
    assert done.returncode == 1
    assert "is lost: reconnecting for up to" in done.stderr
    assert f"{address} sent no frame for" in done.stderr
    kept = len(frames_of(tmp_path / "out.mp4"))
    assert kept > 0
    assert f"{tmp_path / 'out.mp4'} contains {kept} frames\n" in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "out.mp4"]


def test_sigterm_ends_a_recording_with_exit_code_0(uncalibrated: Path, tmp_path: Path) -> None:
    """Service managers expect it."""
    with serving(*TRANSPORT_STREAM) as address:
        options = ["-o", tmp_path / "out.mp4", "--model", uncalibrated, "-n", 1, "--json"]
        with started(command("video", address, *options), stderr=subprocess.DEVNULL) as one:
            first = [one.stdout.readline() for _ in range(20)]
            one.send_signal(signal.SIGTERM)
            rest = one.stdout.read()
            one.wait(TIMEOUT_S)
    assert one.returncode == 0
    # The signal may arrive between a frame and its line in the log.
    assert len(frames_of(tmp_path / "out.mp4")) - len(first) - len(rest.splitlines()) in (0, 1)


def test_metrics_count_dropped_frames(uncalibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted while the command runs."""
    calls: list[tuple[str, int]] = []

    def observe_slowly(*_: object) -> None:
        calls.append(("drawn", 1))
        time.sleep(0.2)  # the time of five frames of the stream

    monkeypatch.setattr(Metrics, "observe_frame", observe_slowly)
    monkeypatch.setattr(Metrics, "observe_dropped", lambda _, frames: calls.append(("dropped", frames)))
    options = ["--model", uncalibrated, "-n", 1, "--duration", 2, "--metrics", free_port()]
    with serving(*TRANSPORT_STREAM) as address:
        done = caflow("video", address, "-o", tmp_path / "out.mp4", *options, code=0)
    dropped = sum(frames for kind, frames in calls if kind == "dropped")
    assert f"caflow: {dropped} frames arrived too fast and were dropped\n" in done.stderr
    kinds = [kind for kind, _ in calls]
    assert "drawn" in kinds[kinds.index("dropped") :]


def test_a_file_at_a_url_is_processed_like_a_local_file(uncalibrated: Path, tmp_path: Path) -> None:
    """With sound and with all frames."""
    inputs = ["-f", "lavfi", "-i", "testsrc2=s=64x32:r=30:d=2", "-f", "lavfi", "-i", "sine=d=2"]
    ffmpeg(*inputs, "-c:a", "aac", "-movflags", "faststart", tmp_path / "clip.mp4")
    with serving_files(tmp_path) as address:
        done = caflow_video(uncalibrated, f"{address}/clip.mp4", "-o", tmp_path / "out.mp4")
    assert done.returncode == 0, done.stderr
    assert [t for t, *_ in frames_of(tmp_path / "out.mp4")] == [t for t, *_ in frames_of(tmp_path / "clip.mp4")]
    assert packets(tmp_path / "out.mp4", "audio") == packets(tmp_path / "clip.mp4", "audio") != []


@pytest.mark.parametrize("address", ["97", "rtsp://127.0.0.1:9/nothing", "http://127.0.0.1:9/nothing.ts"])
def test_a_missing_source_is_refused_in_one_line(uncalibrated: Path, tmp_path: Path, address: str) -> None:
    done = caflow_video(uncalibrated, address, "-o", tmp_path / "out.mp4")
    assert done.returncode == 2
    assert done.stderr.startswith(f"caflow: {address} cannot be opened or sends no frames: check that")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_workers_are_refused_for_a_stream(uncalibrated: Path, tmp_path: Path) -> None:
    with serving(*TRANSPORT_STREAM) as address:
        done = caflow_video(uncalibrated, address, "-o", tmp_path / "out.mp4", "--workers", 2)
    assert f"{address} is live: --workers and --ray require a video file" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.full
def test_a_lost_rtsp_stream_is_recorded_again_with_the_gap_once_it_is_back(uncalibrated: Path, tmp_path: Path) -> None:
    """Frames arrive faster than they are processed, and the others are dropped."""
    found = in_a_process([SYSTEM_PYTHON, SERVER, "--check"])
    if found.returncode:
        pytest.skip(f"requires GStreamer's RTSP server for the system's Python: {found.stderr.splitlines()[-1]}")
    port, messages, frames_after = free_port(), list[str](), list[int]()
    with contextlib.ExitStack() as servers, load(uncalibrated, backend="cpu", threads=1) as pipe:
        first = servers.enter_context(server(port, SYSTEM_PYTHON, SERVER, port))

        def notify(message: str) -> None:
            messages.append(message)
            if "is lost" in message:
                servers.enter_context(server(port, SYSTEM_PYTHON, SERVER, port))

        def show(frame: Frame, _: TimedFrame) -> None:
            if frame.number == 10:
                first.kill()
            if len(messages) == 2:
                frames_after.append(frame.number)
            if len(frames_after) == 10:
                raise KeyboardInterrupt

        source = LiveSource(f"rtsp://127.0.0.1:{port}/live", patience_s=TIMEOUT_S, notify=notify)
        drawing = video_job(pipe, source, tmp_path / "out.mp4", show=show).run()
    assert drawing.ended_early is None
    assert drawing.dropped > 0
    back = re.fullmatch(rf"rtsp://127.0.0.1:{port}/live is back after ([\d.]+) s", messages[1])
    assert back is not None
    times = [seconds for seconds, *_ in frames_of(tmp_path / "out.mp4")]
    assert len(times) == drawing.frames > 20
    # The clock starts with the first frame of a connection, which may itself be late: that shortens the gap.
    assert np.diff(times).max() > float(back[1]) / 2


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("0", "0"),
        ("rtsp://camera.local:554/stream", "rtsp://camera.local:554/stream"),
        ("rtsp://me:secret@camera.local/stream", "rtsp://camera.local/stream"),
        ("rtsp://me:se@cr/et@camera.local/stream", "rtsp://camera.local/stream"),
        ("rtsp://me:12/secret@camera.local", "rtsp://camera.local"),
        ("http://me:se?c/ret@camera.local/stream", "http://…"),
        ("http://me:se/c#ret@camera.local/stream", "http://…"),
        ("https://camera.local/stream?token=secret", "https://camera.local/stream"),
        ("https://camera.local/stream?me=a@b&token=secret", "https://…"),
    ],
)
def test_secrets_of_an_address_are_not_shown(address: str, shown: str) -> None:
    assert without_secrets(address) == shown


def test_secrets_of_a_file_on_a_server_are_not_shown(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x32:r=25", "-frames:v", 2, tmp_path / "a.mp4")
    with serving_files(tmp_path) as address:
        assert FileSource(f"{address}/a.mp4?token=secret").name == f"{address}/a.mp4"
        with pytest.raises(UnreadableVideo) as caught:
            FileSource(f"{address}/b.mp4?token=secret")
        assert "secret" not in str(caught.value)
