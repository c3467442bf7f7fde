"""`caflow video`: properties that a result keeps, errors, and jobs that are stopped and resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import msgspec
import numpy as np
import pytest
from clips import FFMPEG, ffmpeg, frames_of, packets
from commands import Done, caflow, heeding_ctrl_c, messages
from video_jobs import video_job

from caflow_runtime.backends.gpu import first_gpu
from caflow_runtime.bundle import builtin
from caflow_runtime.bundle.reading import describe_file
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.pipeline.stream import Frame
from caflow_runtime.seal import sealed
from caflow_runtime.video.encoding import Encoding
from caflow_runtime.video.file_source import FileSource
from caflow_runtime.video.join import VideoPart, count_frames, join_what_fits
from caflow_runtime.video.parts import Record, parts_of, read_record, write_record
from caflow_runtime.video.sink import SegmentWriter
from caflow_runtime.video.source import TimedFrame, UnwritableVideo, VideoInfo
from caflow_runtime.video.thread_scheduling import TASKS

BT709 = "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,setparams=range=tv:colorspace=bt709"
BT709 += ":color_primaries=bt709:color_trc=bt709"
PQ = "scale=out_color_matrix=bt2020:out_range=tv,format=yuv420p10le,setparams=range=tv:colorspace=bt2020nc"
PQ += ":color_primaries=bt2020:color_trc=smpte2084"
UNEVEN = "select='not(eq(mod(n,10),3)+eq(mod(n,10),6)+eq(mod(n,10),7))'"
TAGS = ("color_range", "colorspace", "color_primaries", "color_trc")
SUBTITLES = "1\n00:00:00,200 --> 00:00:00,600\nHello\n\n2\n00:00:00,700 --> 00:00:00,900\nWorld\n"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of clips of 32×16 pixels and about a second, and of files that are not videos."""
    folder = tmp_path_factory.mktemp("clips")
    picture = ["-f", "lavfi", "-i", "testsrc2=s=32x16:r=30:d=1.2"]
    sound = ["-f", "lavfi", "-i", "sine=f=440:r=48000:d=1.2"]
    x264 = ["-c:v", "libx264", "-bf", 3, "-crf", 20]
    vfr = folder / "vfr.mp4"
    ffmpeg(
        *picture,
        *sound,
        "-vf",
        f"{UNEVEN},{BT709}",
        "-fps_mode",
        "vfr",
        *x264,
        "-c:a",
        "aac",
        "-metadata",
        "title=A",
        vfr,
    )
    ten = ["-c:v", "libx265", "-x265-params", "log-level=error", "-c:a", "libopus"]
    ffmpeg(*picture, *sound, "-vf", PQ, *ten, folder / "ten.mkv")
    ffmpeg("-display_rotation:v:0", 90, "-i", vfr, "-c", "copy", folder / "turned.mp4")
    ffmpeg("-i", vfr, "-c", "copy", "-output_ts_offset", 5, "-f", "mpegts", folder / "late.ts")
    (folder / "words.srt").write_text(SUBTITLES)
    both = ["-i", vfr, "-i", folder / "words.srt", "-map", 0, "-map", 1, "-c", "copy", "-c:s"]
    ffmpeg(*both, "mov_text", folder / "words.mp4")
    ffmpeg(*both, "srt", folder / "words.mkv")
    ffmpeg("-i", vfr, "-vn", "-c", "copy", folder / "sound.m4a")
    (folder / "empty.mp4").write_bytes(b"")
    ffmpeg("-i", vfr, "-c", "copy", "-movflags", "faststart", folder / "front.mp4")
    front = (folder / "front.mp4").read_bytes()
    (folder / "frameless.mp4").write_bytes(front[: front.index(b"mdat") + 4])
    (folder / "strange.mp4").write_bytes(front.replace(b"avc1", b"zzzz"))
    cut = "[0:v][1:v]concat=n=2[v]"
    ffmpeg(
        *picture,
        "-f",
        "lavfi",
        "-i",
        "mandelbrot=s=32x16:r=30",
        "-t",
        2,
        "-filter_complex",
        cut,
        "-map",
        "[v]",
        *x264,
        folder / "cut.mp4",
    )
    return folder


def caflow_video(source: Path, output: Path, bundle: Path, *options: object) -> Done:
    return caflow("video", source, "-o", output, "--bundle", bundle, "-n", 2, "--threads", 1, *options)


@contextmanager
def begun(source: Path, output: Path, bundle: Path, *options: object) -> Iterator["subprocess.Popen[str]"]:
    """Start `caflow video` and wait for its first frame. It ends only if its output is read: the pipe is small."""
    command = [sys.executable, "-m", "caflow_deploy.cli", "video", source, "-o", output, "--bundle", bundle]
    command += ["--threads", 1, "--json", *options]
    with subprocess.Popen(
        heeding_ctrl_c(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, pipesize=4096, text=True
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def gaps(path: Path) -> Counter[int]:
    """Return how often each time between two frames occurs, in milliseconds."""
    times = np.array([seconds for seconds, _, _ in frames_of(path)])
    return Counter(np.rint(1000 * np.diff(times)).astype(int).tolist())


def tags(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        return [int(getattr(context, tag)) for tag in TAGS]


def test_times_colours_sound_and_title_are_kept(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    source, output = clips / "vfr.mp4", tmp_path / "out.mp4"
    done = caflow_video(source, output, uncalibrated)
    assert done.returncode == 0, done.stderr
    assert gaps(output) == gaps(source)
    assert len(gaps(source)) == 3
    assert {size for _, size, _ in frames_of(output)} == {(128, 64)}
    assert tags(output) == tags(source) == [1, 1, 1, 1]
    assert packets(output, "audio") == packets(source, "audio") != []
    with av.open(str(output)) as container:
        assert container.metadata["title"] == "A"
    assert list(tmp_path.iterdir()) == [output]


def test_ten_bits_stay_ten(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    source, output = clips / "ten.mkv", tmp_path / "out.mkv"
    done = caflow_video(source, output, uncalibrated)
    assert done.returncode == 0, done.stderr
    assert {name for _, _, name in frames_of(output)} == {"yuv420p10le"}
    assert tags(output) == tags(source) == [1, 9, 9, 16]
    assert packets(output, "audio") == packets(source, "audio") != []
    with av.open(str(output)) as container:
        (first, *_) = container.decode(container.streams.video[0])
        deep = first.to_ndarray(format="rgb48le")
    assert len(np.unique(deep // 64)) > 256  # computed from the continuous result, not from 8 bits


def test_av1_is_written(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    done = caflow_video(clips / "vfr.mp4", tmp_path / "out.mp4", uncalibrated, "--codec", "av1")
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == "av1"
    assert gaps(tmp_path / "out.mp4") == gaps(clips / "vfr.mp4")


def test_a_turned_clip_comes_out_upright(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    done = caflow_video(clips / "turned.mp4", tmp_path / "out.mp4", uncalibrated)
    assert done.returncode == 0, done.stderr
    assert {size for _, size, _ in frames_of(tmp_path / "out.mp4")} == {(64, 128)}
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert next(container.decode(container.streams.video[0])).rotation == 0


@pytest.mark.parametrize(("degrees", "aspect"), [(0, Fraction(2)), (90, Fraction(1, 2)), (180, Fraction(2))])
def test_wide_pixels_are_high_after_a_quarter_turn(
    uncalibrated: Path, tmp_path: Path, degrees: int, aspect: Fraction
) -> None:
    upright, turned, output = tmp_path / "upright.mp4", tmp_path / "turned.mp4", tmp_path / "out.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=32x16:r=10", "-vf", "setsar=2", "-frames:v", 2, upright)
    ffmpeg("-display_rotation:v:0", degrees, "-i", upright, "-c", "copy", turned)
    done = caflow_video(turned, output, uncalibrated)
    assert done.returncode == 0, done.stderr
    with av.open(str(output)) as container:
        assert container.streams.video[0].sample_aspect_ratio == aspect


def test_subtitles_are_kept_or_named(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    for source, output in (("words.mp4", "out.mp4"), ("words.mkv", "out.mkv")):
        done = caflow_video(clips / source, tmp_path / output, uncalibrated)
        assert (done.returncode, messages(done.stderr)) == (0, [])
        assert packets(tmp_path / output, "subtitle") == packets(clips / source, "subtitle") != []
    done = caflow_video(clips / "words.mkv", tmp_path / "words.mp4", uncalibrated)
    assert done.returncode == 0
    assert "a name that ends in .mkv keeps it unchanged" in done.stderr


def test_sound_that_nothing_knows_does_not_cost_the_picture(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    strange = (clips / "front.mp4").read_bytes().replace(b"mp4a", b"zzzz").replace(b"esds", b"zzzz")
    (tmp_path / "strange.mp4").write_bytes(strange)
    ffmpeg("-i", clips / "vfr.mp4", "-c:v", "copy", "-c:a", "pcm_s16le", "-ac", 2, tmp_path / "pcm.mkv")
    for source, output, said in (
        ("strange.mp4", "a.mp4", "is omitted"),
        ("strange.mp4", "a.mkv", "is omitted"),
        ("pcm.mkv", "b.mp4", "audio 1 (pcm_s16le) is converted"),
    ):
        done = caflow_video(tmp_path / source, tmp_path / output, uncalibrated)
        assert done.returncode == 0, done.stderr
        assert said in done.stderr
        assert len(frames_of(tmp_path / output)) == len(frames_of(clips / "vfr.mp4"))


@pytest.mark.parametrize("name", ["raw.h264", "b_frames.avi"])
def test_files_without_times_run_at_their_rate(uncalibrated: Path, tmp_path: Path, name: str) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=32x16:r=25:d=1", "-c:v", "libx264", "-bf", 3, tmp_path / name)
    done = caflow_video(tmp_path / name, tmp_path / "out.mp4", uncalibrated)
    assert done.returncode == 0, done.stderr
    assert len(frames_of(tmp_path / "out.mp4")) == 25
    assert gaps(tmp_path / "out.mp4")[40] >= 20


def test_a_folder_that_is_no_jobs_is_left_alone(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4.parts").mkdir()
    (tmp_path / "out.mp4.parts" / "mine.txt").touch()
    done = caflow_video(clips / "vfr.mp4", tmp_path / "out.mp4", uncalibrated)
    assert done.returncode == 2
    assert "must be free for the parts of this job, but contains mine.txt" in done.stderr
    assert (tmp_path / "out.mp4.parts" / "mine.txt").exists()


def test_sound_that_mp4_cannot_hold_is_converted_and_that_is_said(
    clips: Path, uncalibrated: Path, tmp_path: Path
) -> None:
    ffmpeg("-i", clips / "vfr.mp4", "-c:v", "copy", "-c:a", "wmav2", tmp_path / "wma.mkv")
    done = caflow_video(tmp_path / "wma.mkv", tmp_path / "out.mp4", uncalibrated)
    assert done.returncode == 0, done.stderr
    assert "audio 1 (wmav2) is converted" in done.stderr
    seconds = []
    for path in (tmp_path / "wma.mkv", tmp_path / "out.mp4"):
        with av.open(str(path)) as container:
            sound = container.streams.audio[0]
            heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(sound)])
            seconds.append(len(heard) / sound.codec_context.sample_rate)
            spectrum = np.abs(np.fft.rfft(heard))
            assert round(int(spectrum.argmax()) / seconds[-1] / 10) == 44  # the tone of 440 Hz
    assert sound.codec_context.name == "aac"
    assert abs(seconds[0] - seconds[1]) < 0.1


def test_chapters_languages_and_fonts_go_along(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    (tmp_path / "chapters.txt").write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=one\n")
    (tmp_path / "font.ttf").write_bytes(b"not a font")
    rich = tmp_path / "rich.mkv"
    inputs = ["-i", clips / "words.mkv", "-i", tmp_path / "chapters.txt", "-map", 0, "-map_chapters", 1]
    languages = ["-metadata:s:a:0", "language=deu", "-metadata:s:s:0", "language=eng", "-disposition:s:0", "forced"]
    font = ["-attach", tmp_path / "font.ttf", "-metadata:s:3", "mimetype=application/x-truetype-font"]
    ffmpeg(*inputs, "-c", "copy", *languages, *font, rich)
    done = caflow_video(rich, tmp_path / "out.mkv", uncalibrated)
    assert (done.returncode, messages(done.stderr)) == (0, [])
    described = []
    for path in (rich, tmp_path / "out.mkv"):
        with av.open(str(path)) as container:
            streams = [(s.type, s.metadata.get("language"), s.disposition) for s in container.streams]
            described.append((streams, [chapter["metadata"] for chapter in container.chapters()]))
    assert described[0] == described[1]
    assert [kind for kind, *_ in described[1][0]] == ["video", "audio", "subtitle", "attachment"]
    done = caflow_video(rich, tmp_path / "out.mp4", uncalibrated)
    assert done.returncode == 0
    assert "attachment 3" in done.stderr
    assert "is omitted" in done.stderr


def test_what_starts_late_stays_in_step(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    done = caflow_video(clips / "late.ts", tmp_path / "out.mkv", uncalibrated)
    assert done.returncode == 0, done.stderr

    def lag(path: Path) -> float:
        with av.open(str(path)) as container:
            starts = [
                float((s.start_time or 0) * (s.time_base or 0))
                for s in (*container.streams.video, *container.streams.audio)
            ]
        return starts[0] - starts[1]

    assert abs(lag(tmp_path / "out.mkv") - lag(clips / "late.ts")) < 0.002


def test_the_log_says_what_was_chosen_and_where_scenes_begin(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    done = caflow_video(clips / "cut.mp4", tmp_path / "out.mp4", uncalibrated, "--json", "--batch", 3)
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in done.stdout.splitlines()]
    assert [entry["frame"] for entry in log] == list(range(len(frames_of(clips / "cut.mp4"))))
    assert [entry["frame"] for entry in log if entry["starts_scene"]] == [0, 36]
    assert all(np.isfinite(entry["bits_per_dim"]) for entry in log)


SCRIPT = """
import os, signal, sys
from pathlib import Path
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.pipeline.stream import StreamSettings
from caflow_runtime.rows.draw import Draw
from video_jobs import video_job
source, output, bundle, noise, how, last = sys.argv[1:]
noise = noise if noise == "fixed" else float(noise)
def show(frame, timed):
    if frame.number == int(last):
        os.kill(os.getpid(), getattr(signal, how))
pipe = load(bundle, backend="cpu", threads=1)
drawing = video_job(pipe, Path(source), Path(output), StreamSettings(Draw(2), noise), 10, show).run()
print(drawing.frames, drawing.stopped is not None)
"""


def job(
    source: Path, output: Path, uncalibrated: Path, noise: str, how: str = "", last: int = -1
) -> "subprocess.CompletedProcess[str]":
    """Run a job with segments of ten frames. The process sends itself the signal `how` after frame `last`."""
    command = [sys.executable, "-c", SCRIPT, source, output, uncalibrated, noise, how, last]
    return subprocess.run(heeding_ctrl_c(command), capture_output=True, text=True, check=False, env=finding_helpers())


def finding_helpers() -> dict[str, str]:
    """Return an environment in which `SCRIPT` finds the modules of the tests."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


@pytest.mark.parametrize("noise", ["fixed", "0.8"])
def test_a_killed_job_goes_on_as_if_nothing_had_been(
    clips: Path, uncalibrated: Path, tmp_path: Path, noise: str
) -> None:
    source, whole, killed = clips / "cut.mp4", tmp_path / "whole.mp4", tmp_path / "killed.mp4"
    done = job(source, whole, uncalibrated, noise)
    assert done.returncode == 0, done.stderr
    done = job(source, killed, uncalibrated, noise, how="SIGKILL", last=45)
    assert done.returncode == -signal.SIGKILL
    assert not killed.exists()
    finished = segments_of(tmp_path / "killed.mp4.parts")
    assert 0 < len(finished) < 6
    for segment in finished:
        assert len(frames_of(tmp_path / "killed.mp4.parts" / segment["file"]["path"])) == segment["frames"] == 10
    done = job(source, killed, uncalibrated, noise)
    assert done.returncode == 0, done.stderr
    assert killed.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed.mp4", "whole.mp4"]


def test_ctrl_c_finishes_the_file(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    source, output = clips / "cut.mp4", tmp_path / "out.mp4"
    done = job(source, output, uncalibrated, "fixed", how="SIGINT", last=24)
    assert done.stdout == "25 True\n", done.stderr
    assert len(frames_of(output)) == 25
    done = job(source, output, uncalibrated, "fixed")
    assert done.stdout == f"{len(frames_of(source))} False\n", done.stderr
    assert len(frames_of(output)) == len(frames_of(source))
    assert list(tmp_path.iterdir()) == [output]


def test_a_stopped_job_says_how_to_resume(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    """The missing folder of the output is created. `--resume`, an option of earlier versions, has no effect."""
    output = tmp_path / "new" / "out.mp4"
    with begun(clips / "cut.mp4", output, uncalibrated, "-n", 2) as run:
        run.send_signal(signal.SIGINT)
        _, said = run.communicate()
    assert run.returncode == 130
    (why,) = messages(said)
    assert why.startswith("caflow: stopped after ")
    assert why.endswith(f"{output} contains {len(frames_of(output))} frames; run the same command again to resume")
    done = caflow_video(clips / "cut.mp4", output, uncalibrated, "--resume")
    assert done.returncode == 0, done.stderr
    assert list(output.parent.iterdir()) == [output]


@pytest.fixture(scope="module")
def stopped_once(clips: Path, uncalibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a job that was stopped after 45 frames, in segments of ten, and of the complete result `whole.mp4`."""
    folder = tmp_path_factory.mktemp("stopped")
    assert job(clips / "cut.mp4", folder / "whole.mp4", uncalibrated, "0.8").returncode == 0
    assert job(clips / "cut.mp4", folder / "out.mp4", uncalibrated, "0.8", how="SIGINT", last=44).stdout == "45 True\n"
    assert len(segments_of(folder / "out.mp4.parts")) == 4
    return folder


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """A copy of the stopped job's folder of segments, which a test may damage."""
    shutil.copytree(stopped_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "out.mp4.parts"


def segments_of(parts: Path) -> list[dict[str, Any]]:
    """Return the records of the finished segments."""
    paths = sorted(path for path in parts.glob("*.json") if path.name != "job.json")
    return [json.loads(path.read_text()) for path in paths]


def truncate(path: Path, _: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def zero(path: Path, _: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def replace_by(path: Path, other: Path) -> None:
    """Replace a segment by another valid video."""
    shutil.copy(other, path)


def remove(path: Path, _: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "numbers"), [(truncate, [3]), (zero, [1]), (replace_by, [0, 2]), (remove, [0]), (remove, [0, 1, 2, 3])]
)
def test_a_damaged_segment_is_drawn_again(
    clips: Path, uncalibrated: Path, stopped: Path, damage: Callable[[Path, Path], None], numbers: list[int]
) -> None:
    """The other segments' files stay unchanged. The result equals that of a job that was never stopped."""
    source, output, whole = clips / "cut.mp4", stopped.with_name("out.mp4"), stopped.with_name("whole.mp4")
    finished = [stopped / segment["file"]["path"] for segment in segments_of(stopped)]
    for number in numbers:
        damage(finished[number], finished[(number + 1) % 4])
    others = [path for number, path in enumerate(finished) if number not in numbers]
    before = [path.stat().st_mtime_ns for path in others]
    count = len(frames_of(source))
    # Stop at the last frame, because a job that ends removes its segments.
    done = job(source, output, uncalibrated, "0.8", how="SIGINT", last=count - 1)
    assert done.stdout == f"{count} True\n", done.stderr
    assert packets(output, "video") == packets(whole, "video") != []
    assert frames_of(output) == frames_of(whole)
    assert [path.stat().st_mtime_ns for path in others] == before


def test_a_stop_while_a_damaged_segment_is_drawn_loses_nothing(clips: Path, uncalibrated: Path, stopped: Path) -> None:
    """The output then contains the frames before the stop, and the later segments are kept."""
    source, output, whole = clips / "cut.mp4", stopped.with_name("out.mp4"), stopped.with_name("whole.mp4")
    zero(stopped / "00001.mp4", stopped)
    done = job(source, output, uncalibrated, "0.8", how="SIGINT", last=13)
    assert done.stdout == "14 True\n", done.stderr
    assert frames_of(output) == frames_of(whole)[:14]
    assert len(segments_of(stopped)) == 4
    done = job(source, output, uncalibrated, "0.8")
    assert done.stdout == f"{len(frames_of(source))} False\n", done.stderr
    assert packets(output, "video") == packets(whole, "video")
    assert not stopped.exists()


def test_a_segment_that_is_damaged_while_the_job_runs_is_not_joined(
    clips: Path, uncalibrated: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    with load(uncalibrated, backend="cpu", threads=1) as pipe:

        def show(frame: Frame, _: TimedFrame) -> None:
            if frame.number == 40:
                zero(parts_of(output) / "00000.mp4", output)

        job = video_job(pipe, clips / "cut.mp4", output, segment_frames=10, show=show)
        with pytest.raises(UnwritableVideo, match=r"segment 0 in .* has changed .*: run the same command again"):
            job.run()
        assert not output.exists()
        job.source = FileSource(clips / "cut.mp4")
        assert job.run().frames == len(frames_of(output)) == len(frames_of(clips / "cut.mp4"))


def test_what_is_joined_is_counted(clips: Path, tmp_path: Path) -> None:
    info, folder = FileSource(clips / "vfr.mp4").info, tmp_path
    parts = [write_segment(folder / f"{k}.mp4", info, frames=6, start=18000 * k) for k in range(2)]
    assert join_what_fits(parts, folder / "both.mp4", None, info) == []
    assert count_frames(folder / "both.mp4") == len(frames_of(folder / "both.mp4")) == 12
    with pytest.raises(UnwritableVideo, match="13 frames were joined, but the file contains 12"):
        join_what_fits([parts[0], parts[1]._replace(frames=7)], folder / "both.mp4", None, info)


def write_segment(path: Path, info: VideoInfo, frames: int, start: int) -> VideoPart:
    writer = SegmentWriter(path, 32, 64, info, Encoding("h264", 18, 8))
    for k in range(frames):
        writer.write(np.full((32, 64, 3), 10 * k, np.float32), start + 3000 * k)
    writer.close()
    return VideoPart(path, start, frames)


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "ffv1"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_every_frame_is_counted(clips: Path, tmp_path: Path, codec: Any, suffix: str) -> None:
    """The count does not depend on how a codec orders and packs its frames."""
    if codec == "ffv1" and suffix == ".mp4":
        pytest.skip("MP4 files cannot contain FFV1")
    info, encoding = FileSource(clips / "vfr.mp4").info, Encoding(codec, 18, 8)
    moving = np.random.default_rng(0).uniform(0, 255, (64, 64, 3)).astype(np.float32)
    path = tmp_path / f"segment{encoding.segment_suffix}"
    writer = SegmentWriter(path, 64, 64, info, encoding)
    for k in range(50):
        writer.write(np.roll(moving, 3 * k, 1), 3000 * k)
    writer.close()
    threads = [int(task.name) for task in TASKS.iterdir()] if TASKS.is_dir() else []
    assert {os.sched_getscheduler(thread) for thread in threads} <= {os.SCHED_OTHER}  # as root, SVT-AV1 changes them
    join_what_fits([VideoPart(path, 0, 50)], tmp_path / f"joined{suffix}", None, info)
    assert count_frames(path) == count_frames(tmp_path / f"joined{suffix}") == 50
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert count_frames(path) < 50


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("preset", [None, "ultrafast"])
def test_a_few_frames_of_hevc_have_decoding_times(clips: Path, tmp_path: Path, frames: int, preset: str | None) -> None:
    """x265 returns random times for one or two frames, with which writing fails most of the time."""
    info, encoding = FileSource(clips / "vfr.mp4").info, Encoding("hevc", 18, 8, preset=preset)
    for _ in range(8):
        writer = SegmentWriter(tmp_path / "segment.mp4", 64, 64, info, encoding)
        for k in range(frames):
            writer.write(np.full((64, 64, 3), 10 * k, np.float32), 3000 * k)
        writer.close()
        times = [seconds for seconds, _, _ in frames_of(tmp_path / "segment.mp4")]
        assert times == pytest.approx([k / 30 for k in range(frames)])


def test_two_processes_do_not_write_one_video(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    """While one process runs, a second one is refused, with --force and without. The first one's files stay."""
    output = tmp_path / "out.mp4"
    with begun(clips / "cut.mp4", output, uncalibrated, "-n", 2):
        for force in ([], ["--force"]):
            second = caflow_video(clips / "cut.mp4", output, uncalibrated, *force)
            assert (second.returncode, second.stdout) == (2, "")
            (why,) = messages(second.stderr)
            assert (
                why == f"caflow: another process is working in {output}.parts; wait until it ends, or choose another -o"
            )
    done = caflow_video(clips / "cut.mp4", output, uncalibrated)  # a killed process holds no lock
    assert done.returncode == 0, done.stderr
    assert len(frames_of(output)) == len(frames_of(clips / "cut.mp4"))
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("is_written", [False, True])
def test_another_job_is_refused_by_what_differs(
    clips: Path, uncalibrated: Path, calibrated: Path, tmp_path: Path, is_written: bool
) -> None:
    """The error names the differing video, bundle or setting. --force starts again."""
    output, own = tmp_path / "out.mp4", ["-n", 2, "--seed", 0]
    with begun(clips / "cut.mp4", output, uncalibrated, *own) as first:
        first.send_signal(signal.SIGINT if is_written else signal.SIGKILL)
        first.communicate()
    assert output.exists() == is_written
    for source, options, differing in (
        ("vfr.mp4", [], "source "),
        ("cut.mp4", ["--seed", 1], "seed 0 (now 1);"),
        ("cut.mp4", ["--codec", "hevc"], "codec h264 (now hevc);"),
        ("cut.mp4", ["--batch", 2], "batch 1 (now 2);"),
        ("cut.mp4", ["--pixel-budget", 9999], "pixel_budget None (now 9999);"),
        ("cut.mp4", ["--bundle", calibrated], "calibration None (now "),
        ("cut.mp4", ["--bundle", builtin.DEFAULT], "bundle "),
    ):
        refused = caflow_video(clips / source, output, uncalibrated, *options)
        assert (refused.returncode, refused.stdout) == (2, "")
        (why,) = messages(refused.stderr)
        assert why.startswith(f"caflow: {output}.parts contains a job with other settings: {differing}")
        assert why.endswith("choose another -o, or use --force to start again")
    done = caflow_video(clips / "vfr.mp4", output, uncalibrated, "--force")
    assert done.returncode == 0, done.stderr
    assert len(frames_of(output)) == len(frames_of(clips / "vfr.mp4"))
    assert list(tmp_path.iterdir()) == [output]


def test_settings_that_are_left_out_on_resuming_are_missed(clips: Path, calibrated: Path, tmp_path: Path) -> None:
    """A job that judges its frames cannot be resumed without judging them."""
    output = tmp_path / "out.mp4"
    with begun(clips / "cut.mp4", output, calibrated, "-n", 1, "--min-typicality", 0.1):
        pass
    command = [sys.executable, "-m", "caflow_deploy.cli", "video", clips / "cut.mp4", "-o", output]
    command += ["--bundle", calibrated, "-n", 1, "--threads", 1]
    refused = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "contains a job with other settings: min_typicality 0.1 (now 0.0)" in refused.stderr


def test_a_frame_that_the_codec_cannot_hold_is_no_job_to_resume(uncalibrated: Path, tmp_path: Path) -> None:
    """Every attempt would fail in the same way."""
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=2x2:r=30:d=0.2", "-c:v", "ffv1", tmp_path / "tiny.mkv")
    done = caflow_video(tmp_path / "tiny.mkv", tmp_path / "out.mp4", uncalibrated, "--codec", "hevc")
    assert done.returncode == 2
    assert "libx265 cannot encode frames of 8×8" in done.stderr
    assert "use another --codec" in done.stderr
    assert "resume" not in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "tiny.mkv"]


def test_a_folder_in_the_outputs_place_is_refused_at_once(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    """The error comes before any frame is drawn."""
    (tmp_path / "out.mp4").mkdir()
    done = caflow_video(clips / "vfr.mp4", tmp_path / "out.mp4", uncalibrated, "--force")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"caflow: {tmp_path / 'out.mp4'} is a folder; give the name of a file as -o\n"


def test_what_is_not_the_jobs_own_stays_in_its_folder(clips: Path, uncalibrated: Path, stopped: Path) -> None:
    source, output = clips / "cut.mp4", stopped.with_name("out.mp4")
    (stopped / "00001.mp4").rename(stopped.with_name("moved.mp4"))
    (stopped / "00001.mp4").mkdir()
    done = job(source, output, uncalibrated, "0.8")
    assert done.stderr.endswith(
        f"{stopped / '00001.mp4'} is a folder, but this job must write a file of that name: move the folder elsewhere\n"
    )
    (stopped / "00001.mp4").rename(stopped / "mine")
    (stopped / "notes.txt").touch()
    done = job(source, output, uncalibrated, "0.8")
    assert done.stdout == f"{len(frames_of(source))} False\n", done.stderr
    assert packets(output, "video") == packets(stopped.with_name("whole.mp4"), "video")
    assert sorted(path.name for path in stopped.iterdir()) == ["mine", "notes.txt"]


RECORDS: dict[str, Callable[[dict[str, Any]], object]] = {
    "elsewhere": lambda record: record["file"].update(path="../00000.mp4"),
    "another's": lambda record: record["file"].update(path="00001.mp4"),
    "another number": lambda record: record["report"].update(number=2),
    "another place": lambda record: record.update(first=5),
    "negative": lambda record: record["report"].update(start=-1),
    "endless": lambda record: record["report"].update(start=10**30),
    "sample": lambda record: record["report"].update(sample=2**40),
    "field": lambda record: record.pop("frames"),
    "another job": lambda record: record.update(made_of="0" * 64),
}


@pytest.mark.parametrize("change", RECORDS)
@pytest.mark.parametrize("is_resealed", [False, True])
def test_a_record_that_cannot_be_right_is_none(stopped: Path, change: str, is_resealed: bool) -> None:
    """A wrong record is ignored, so its segment is drawn again."""
    path = stopped / "00000.json"
    record = json.loads(path.read_text())
    assert read_record(stopped, 0, record["made_of"]) is not None
    RECORDS[change](record)
    if is_resealed:
        with suppress(msgspec.ValidationError):
            record = msgspec.to_builtins(sealed(msgspec.convert(record, Record)))
    path.write_text(json.dumps(record))
    found = read_record(stopped, 0, segments_of(stopped)[1]["made_of"])
    assert found is None or (change, found.first) == ("another place", 5)  # `read_records` checks the position


@pytest.mark.parametrize("field", ["start", "sample"])
def test_a_segment_whose_record_was_changed_is_drawn_again(
    clips: Path, uncalibrated: Path, stopped: Path, field: str
) -> None:
    """With the changed record, its frames would have other times, or later frames another sample."""
    record = json.loads((stopped / "00000.json").read_text())
    record["report"][field] += 1
    (stopped / "00000.json").write_text(json.dumps(record))
    output = stopped.with_name("out.mp4")
    assert job(clips / "cut.mp4", output, uncalibrated, "0.8").returncode == 0
    assert output.read_bytes() == stopped.with_name("whole.mp4").read_bytes()


def test_a_job_with_more_segments_than_the_video_has_is_refused(clips: Path, uncalibrated: Path, stopped: Path) -> None:
    before = stopped.with_name("out.mp4").read_bytes()
    record = msgspec.json.decode((stopped / "00000.json").read_bytes(), type=Record)
    for number in range(4, 20):
        shutil.copy(stopped / "00000.mp4", stopped / f"{number:05d}.mp4")
        file = describe_file(stopped, f"{number:05d}.mp4")
        report = msgspec.structs.replace(record.report, number=number)
        write_record(stopped, msgspec.structs.replace(record, report=report, first=10 * number, file=file))
    done = job(clips / "cut.mp4", stopped.with_name("out.mp4"), uncalibrated, "0.8")
    assert "contains 200 finished frames, but" in done.stderr.splitlines()[-1]
    assert stopped.with_name("out.mp4").read_bytes() == before


def tagged(path: Path, *inputs: object) -> None:
    """Write a clip with tags in Latin-1, as old software does."""
    title, artist = b"title=Caf\xe9", b"artist=Andr\xe9 \x93A\x94"
    command = [FFMPEG, "-y", "-v", "error", *map(str, inputs), "-metadata", title, "-metadata", artist]
    subprocess.run([*command, "-metadata:s:a:0", b"title=Fran\xe7ais", path], check=True)


@pytest.mark.parametrize("name", ["old.avi", "old.mkv", "old.mp4"])
def test_tags_that_are_not_utf_8_are_read(clips: Path, uncalibrated: Path, tmp_path: Path, name: str) -> None:
    """The tags of the file, of its streams and of its chapters are read."""
    chapters = b";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=No\xebl\n"
    (tmp_path / "chapters.txt").write_bytes(chapters)
    maps = ["-map", 0, "-map_metadata", 0, "-map_chapters", 1]
    tagged(tmp_path / name, "-i", clips / "vfr.mp4", "-i", tmp_path / "chapters.txt", *maps, "-c:a", "mp2")
    info = FileSource(tmp_path / name).info
    tags = {key.lower(): value for key, value in info.metadata.items()}
    assert (tags["title"], tags["artist"]) == ("Café", "André “A”")
    done = caflow_video(tmp_path / name, tmp_path / "out.mkv", uncalibrated)
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert container.metadata["title"] == "Café"
        if name != "old.mp4":  # MP4 stores this title under another name
            assert container.streams.audio[0].metadata["title"] == "Français"
        if name != "old.avi":  # AVI has no chapters
            assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["Noël"]


@pytest.mark.parametrize("said", ["1/0:0:0", "1e999999999:00:00", "nan:00:00", "00:00:٣", "x", "0:0"])
def test_a_duration_that_is_none_is_not_believed(clips: Path, tmp_path: Path, said: str) -> None:
    """Matroska stores the duration as text."""
    source = (clips / "words.mkv").read_bytes()
    with av.open(str(clips / "words.mkv")) as container:
        duration = container.streams.video[0].metadata["DURATION"].encode()
    (tmp_path / "lies.mkv").write_bytes(source.replace(duration, said.encode().ljust(len(duration), b"\0")))
    frames = FileSource(tmp_path / "lies.mkv")
    assert len(list(frames.frames())) == len(frames_of(clips / "words.mkv"))
    assert frames.ended_early is None


def test_a_cut_off_file_gives_what_it_has(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    whole = (clips / "words.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    done = caflow_video(tmp_path / "cut.mkv", tmp_path / "out.mkv", uncalibrated)
    assert 0 < len(frames_of(tmp_path / "out.mkv")) < len(frames_of(clips / "words.mkv"))
    assert done.returncode == 1
    assert "is incomplete: the pictures end at 0." in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "cut.mkv", tmp_path / "out.mkv"]


def test_a_picture_that_changes_its_size_ends_the_video(uncalibrated: Path, tmp_path: Path) -> None:
    for name, size in (("a.ts", "32x16"), ("b.ts", "48x32")):
        ffmpeg("-f", "lavfi", "-i", f"testsrc2=s={size}:r=30:d=0.5", "-c:v", "mpeg2video", tmp_path / name)
    (tmp_path / "two.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    done = caflow_video(tmp_path / "two.ts", tmp_path / "out.mp4", uncalibrated)
    assert done.returncode == 1
    assert "the size of its frames changes from 32×16 to 48×32" in done.stderr
    assert len(frames_of(tmp_path / "out.mp4")) >= 14  # MPEG-2 decoders hold one frame back


@pytest.mark.parametrize(
    ("source", "output", "options", "message"),
    [
        ("nothing.mp4", "out.mp4", [], "there is no such file"),
        ("words.srt", "out.mp4", [], "expected a video; it contains no pictures"),
        ("vfr.mp4", "out.avi", [], "the name must end in .mp4, .mov"),
        ("vfr.mp4", "out.mp4", ["--codec", "ffv1"], ".mp4 files cannot contain ffv1"),
        ("vfr.mp4", "out.mp4", ["--crf", 60], "crf must be at most 51 for h264; got 60"),
        ("vfr.mp4", "out.mp4", ["--workers", 2, "--show"], "--show does not work with --workers and --ray"),
        ("vfr.mp4", "out.mp4", ["--workers", 2, "--metrics", 9100], "--metrics does not work with --workers"),
        ("vfr.mp4", "out.mp4", ["--workers", 2, "--encoder", "nvenc"], "--encoder nvenc does not work with --workers"),
        ("vfr.mp4", "out.mp4", ["--noise", "blue"], "must be fixed, fresh, or ar1:ρ"),
        (".", "out.mp4", [], "is a folder; expected a video file"),
        ("sound.m4a", "out.mp4", [], "expected a video; it contains no pictures"),
        ("empty.mp4", "out.mp4", [], "cannot be read as a video"),
        ("strange.mp4", "out.mp4", [], "FFmpeg does not know the codec of its pictures"),
        ("frameless.mp4", "out.mp4", [], "expected a video; none of its frames can be decoded"),
    ],
)
def test_refusals_are_one_line(
    clips: Path, uncalibrated: Path, tmp_path: Path, source: str, output: str, options: list[str], message: str
) -> None:
    done = caflow_video(clips / source, tmp_path / output, uncalibrated, *options)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert message in last
    is_by_click = {"--noise", "--workers"} & set(options)  # click also shows the usage
    assert messages(done.stderr) == [last] or is_by_click
    assert not list(tmp_path.iterdir())


def test_what_is_done_is_kept_where_no_more_can_be_written(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    """A limit of 64 KiB for each file stands for a full disk."""
    command = [sys.executable, "-m", "caflow_deploy.cli", "video", clips / "cut.mp4", "-o", tmp_path / "out.mkv"]
    command += ["--bundle", uncalibrated, "-n", 2, "--threads", 1, "--codec", "ffv1"]
    limited = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16)); "
    limited += "os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", limited, *map(str, command)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "and can be played; run the same command again to resume" in done.stderr
    assert (tmp_path / "out.mkv.parts" / "job.json").is_file()
    assert sum(len(frames_of(path)) for path in (tmp_path / "out.mkv.parts").glob("*.mkv")) > 0


def test_odd_sides_need_a_codec_that_holds_them(clips: Path, tmp_path: Path) -> None:
    info, pixels = FileSource(clips / "vfr.mp4").info, np.zeros((15, 31, 3), np.float32)
    with pytest.raises(InputError, match=r"even width and height, .* got 31×15"):
        SegmentWriter(tmp_path / "odd.mp4", 15, 31, info, Encoding("h264", 18, 8))
    writer = SegmentWriter(tmp_path / "odd.mkv", 15, 31, info, Encoding("ffv1", 18, 8))
    writer.write(pixels, 0)
    writer.close()
    assert [size for _, size, _ in frames_of(tmp_path / "odd.mkv")] == [(31, 15)]


@pytest.mark.skipif(sys.platform != "linux", reason="os.sched_setaffinity is only available on Linux")
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_machine_with_fewer_cores_writes_the_same(clips: Path, tmp_path: Path, codec: Any) -> None:
    info = FileSource(clips / "vfr.mp4").info
    picture = cv2.resize(next(iter(FileSource(clips / "vfr.mp4").frames())).image, (256, 256)).astype(np.float32)

    def write(name: str, cores: set[int]) -> None:
        os.sched_setaffinity(0, cores)
        writer = SegmentWriter(tmp_path / name, 256, 256, info, Encoding(codec, 18, 8))
        for k in range(20):
            writer.write(np.roll(picture, 5 * k, 1), 3000 * k)
        writer.close()

    cores = os.sched_getaffinity(0)
    with ThreadPoolExecutor(1) as thread:  # so that only this thread's cores change
        thread.submit(write, "all.mp4", cores).result()
        thread.submit(write, "one.mp4", {min(cores)}).result()
    assert packets(tmp_path / "one.mp4", "video") == packets(tmp_path / "all.mp4", "video") != []


@pytest.mark.skipif(first_gpu() is not None, reason="this test is for machines without a GPU")
def test_nvenc_is_an_error_where_it_is_not(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    done = caflow_video(clips / "vfr.mp4", tmp_path / "out.mp4", uncalibrated, "--encoder", "nvenc")
    assert done.returncode == 2
    assert "--encoder nvenc: NVENC cannot encode h264 of 128×64 here" in done.stderr


@pytest.mark.gpu
@pytest.mark.usefixtures("onnxruntime_cuda")
def test_cuda_draws_the_frames_that_the_cpu_draws(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    drawn = []
    for backend in ("cpu", "cuda"):
        output = tmp_path / f"{backend}.mkv"
        done = caflow_video(clips / "vfr.mp4", output, uncalibrated, "--backend", backend, "--codec", "ffv1")
        assert done.returncode == 0, done.stderr
        with av.open(str(output)) as container:
            drawn.append(np.stack([f.to_ndarray(format="rgb24") for f in container.decode(container.streams.video[0])]))
    assert (drawn[0] != drawn[1]).mean() < 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_nvenc_keeps_times_and_colours(clips: Path, uncalibrated: Path, tmp_path: Path, codec: str) -> None:
    """The frames are enlarged first, because NVENC has a minimum size."""
    source = tmp_path / "large.mp4"
    ffmpeg("-i", clips / "vfr.mp4", "-vf", "scale=128:96", "-c:v", "libx264", "-c:a", "copy", source)
    done = caflow_video(source, tmp_path / "out.mp4", uncalibrated, "--encoder", "nvenc", "--codec", codec)
    assert done.returncode == 0, done.stderr
    assert gaps(tmp_path / "out.mp4") == gaps(source)
    assert tags(tmp_path / "out.mp4") == tags(source)


FFPROBE = shutil.which("ffprobe")
SHOWN = "stream=codec_type,start_time,color_range,color_space,color_transfer,color_primaries:frame=pts_time,pix_fmt"


@pytest.mark.skipif(FFPROBE is None, reason="ffprobe is not installed; run apt-get install ffmpeg")
@pytest.mark.parametrize(
    ("source", "output"),
    [("vfr.mp4", "out.mp4"), ("ten.mkv", "out.mkv"), ("turned.mp4", "out.mp4"), ("words.mkv", "out.mkv")],
)
def test_another_ffmpeg_agrees(clips: Path, uncalibrated: Path, tmp_path: Path, source: str, output: str) -> None:
    """ffprobe shows equal streams, times, formats and colours, and the MD5 of the sound is equal."""
    done = caflow_video(clips / source, tmp_path / output, uncalibrated)
    assert done.returncode == 0, done.stderr

    def probed(path: Path) -> tuple[Any, ...]:
        command = [str(FFPROBE), "-v", "error", "-show_entries", SHOWN, "-of", "json", str(path)]
        shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        frames = [frame for frame in shown["frames"] if "pix_fmt" in frame]
        times = np.array([float(frame["pts_time"]) for frame in frames])
        kinds = sorted(stream["codec_type"] for stream in shown["streams"])
        colours = next(s for s in shown["streams"] if s["codec_type"] == "video")
        return (
            kinds,
            np.rint(500 * (times - times[0])).tolist(),
            {f["pix_fmt"] for f in frames},
            {key: value for key, value in colours.items() if key.startswith("color")},
        )

    def sound(path: Path) -> bytes:
        command = [FFMPEG, "-v", "error", "-i", str(path), "-map", "0:a", "-c", "copy", "-f", "md5", "-"]
        return subprocess.run(command, capture_output=True, check=True).stdout

    assert probed(tmp_path / output) == probed(clips / source)
    assert sound(tmp_path / output) == sound(clips / source)


@pytest.mark.full
def test_memory_is_flat_over_2000_frames(uncalibrated: Path, tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x32:r=30", "-frames:v", 2000, "-c:v", "libx264", tmp_path / "long.mp4")
    measured = SCRIPT.replace("frame.number == int(last)", "frame.number in (500, 1999)").replace(
        "os.kill(os.getpid(), getattr(signal, how))", "print(open('/proc/self/statm').read().split()[1])"
    )
    command = [sys.executable, "-c", measured, tmp_path / "long.mp4", tmp_path / "out.mp4", uncalibrated]
    command += ["fixed", "", -1]
    line = [str(part) for part in command]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=finding_helpers())
    assert done.returncode == 0, done.stderr
    early, late = (int(line) * os.sysconf("SC_PAGE_SIZE") / 2**20 for line in done.stdout.splitlines()[:2])
    print(f"resident after 500 and 2,000 frames: {early:.1f}, {late:.1f} MiB")
    assert late < early + 8
