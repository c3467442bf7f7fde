"""`caflow video`: jobs that are stopped and resumed, that are refused, or that fail, and damaged segments."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clips import ffmpeg, frames_of, packets
from commands import command, in_a_process
from video_jobs import video_job
from video_runs import SCRIPT, begun, best_of_2, finding_helpers, job, segments_of

from caflow_deploy.video.file_source import FileSource
from caflow_deploy.video.frame_source import TimedFrame, UnwritableVideo
from caflow_deploy.video.job import where_resumed
from caflow_deploy.video.segment_store import JOURNAL, SegmentRecord, folder_of, open_journal
from caflow_runtime.bundle import builtin
from caflow_runtime.bundle.reading import describe_file
from caflow_runtime.file_io.line_checksum import with_checksum
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.pipeline.stream import Frame


def test_a_second_stop_keeps_the_longer_file(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    """The first stop also wrote 5 frames of an unfinished segment. The second run drew only 2 of these frames."""
    source, output = clips / "cut.mp4", tmp_path / "out.mp4"
    job(source, output, uncalibrated, "fixed", how="SIGINT", last=24)
    done = job(source, output, uncalibrated, "fixed", how="SIGINT", last=21)
    assert done.stdout == "25 True\n", done.stderr
    assert len(frames_of(output)) == 25
    done = job(source, output, uncalibrated, "fixed", how="SIGINT", last=34)
    assert done.stdout == "35 True\n", done.stderr
    assert len(frames_of(output)) == 35
    done = job(source, output, uncalibrated, "fixed")
    assert done.stdout == f"{len(frames_of(source))} False\n", done.stderr
    assert len(frames_of(output)) == len(frames_of(source))
    assert list(tmp_path.iterdir()) == [output]


def test_a_dry_run_says_what_is_drawn_or_refused(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    """The resumed run says the same. The kept files stay as they are."""
    source, output = clips / "cut.mp4", tmp_path / "out.mp4"
    job(source, output, uncalibrated, "fixed", how="SIGINT", last=24)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    options = ["--segment-frames", 10]
    whole = len(frames_of(source))
    told = f"{source}: 20 of {whole} frames are drawn already; the command {where_resumed(20)}"
    dry = best_of_2(source, output, uncalibrated, *options, "--dry-run")
    assert dry.stderr == ""
    assert dry.stdout.splitlines()[1:] == [told]
    dry = best_of_2(source, output, uncalibrated, *options, "--dry-run", "--force")
    assert len(dry.stdout.splitlines()) == 1
    dry, real = (best_of_2(source, output, uncalibrated, "--seed", 1, *more, code=2) for more in (["--dry-run"], []))
    assert dry == real
    assert dry.stdout == ""
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == kept
    assert told in best_of_2(source, output, uncalibrated, *options).stderr.splitlines()
    assert len(frames_of(output)) == whole


def test_two_processes_do_not_write_one_video(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    """While one process runs, a second one is refused, with --force and without. The first one's files stay."""
    output = tmp_path / "out.mp4"
    with begun(clips / "cut.mp4", output, uncalibrated, "-n", 2):
        for force in ([], ["--force"]):
            second = best_of_2(clips / "cut.mp4", output, uncalibrated, *force, code=2)
            assert second.stdout == ""
            assert f"another process is working in {output}.segments" in second.stderr
    best_of_2(clips / "cut.mp4", output, uncalibrated)  # a killed process holds no lock
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
        ("vfr.mp4", [], "the input file has changed;"),
        ("cut.mp4", ["--seed", 1], "--seed 0 (now 1);"),
        ("cut.mp4", ["--codec", "hevc"], "--codec h264 (now hevc);"),
        ("cut.mp4", ["--batch", 2], "--batch 1 (now 2);"),
        ("cut.mp4", ["--model", calibrated], "the calibration of the model has changed;"),
        ("cut.mp4", ["--model", builtin.DEFAULT], "the model has changed,"),
    ):
        refused = best_of_2(clips / source, output, uncalibrated, *options, code=2)
        assert refused.stdout == ""
        assert differing in refused.stderr
    best_of_2(clips / "vfr.mp4", output, uncalibrated, "--force")
    assert len(frames_of(output)) == len(frames_of(clips / "vfr.mp4"))
    assert list(tmp_path.iterdir()) == [output]


def test_what_is_done_is_kept_where_no_more_can_be_written(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    """A limit of 64 KiB for each file stands for a full disk."""
    given = ["video", clips / "cut.mp4", "-o", tmp_path / "out.mkv", "--model", uncalibrated]
    limited = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16)); "
    limited += "os.execv(sys.argv[1], sys.argv[1:])"
    line = command(*given, "-n", 2, "--threads", 1, "--codec", "ffv1")
    done = in_a_process([sys.executable, "-c", limited, *line])
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    finished = sum(record["frames"] for record in segments_of(tmp_path / "out.mkv.segments"))
    assert f"and can be played; the same command {where_resumed(finished)}\n" in done.stderr
    assert (tmp_path / "out.mkv.segments" / "job.json").is_file()
    assert sum(len(frames_of(path)) for path in (tmp_path / "out.mkv.segments").glob("*.mkv")) > 0


@pytest.mark.full
def test_memory_is_flat_over_2000_frames(uncalibrated: Path, tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x32:r=30", "-frames:v", 2000, "-c:v", "libx264", tmp_path / "long.mp4")
    measured = SCRIPT.replace("frame.number == int(last)", "frame.number in (500, 1999)").replace(
        "os.kill(os.getpid(), getattr(signal, how))", "print(open('/proc/self/statm').read().split()[1])"
    )
    line = [sys.executable, "-c", measured, tmp_path / "long.mp4", tmp_path / "out.mp4", uncalibrated, "fixed", "", -1]
    done = in_a_process(line, env=finding_helpers())
    assert done.returncode == 0, done.stderr
    early, late = (int(line) * os.sysconf("SC_PAGE_SIZE") / 2**20 for line in done.stdout.splitlines()[:2])
    assert late < early + 8


def test_a_folder_in_the_outputs_place_is_refused_at_once(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    """The error comes before any frame is drawn, but after that of a missing input."""
    (tmp_path / "out.mp4").mkdir()
    for source, said in ((tmp_path / "missing.mp4", "missing.mp4"), (clips / "vfr.mp4", "out.mp4 is a folder")):
        assert said in best_of_2(source, tmp_path / "out.mp4", uncalibrated, "--force", code=2).stderr


@pytest.fixture(scope="module")
def stopped_once(clips: Path, uncalibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a job that was stopped after 45 frames, in segments of ten, and of the complete result `whole.mp4`."""
    folder = tmp_path_factory.mktemp("stopped")
    assert job(clips / "cut.mp4", folder / "whole.mp4", uncalibrated, "0.8").returncode == 0
    assert job(clips / "cut.mp4", folder / "out.mp4", uncalibrated, "0.8", how="SIGINT", last=44).stdout == "45 True\n"
    assert len(segments_of(folder / "out.mp4.segments")) == 4
    return folder


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """A copy of the stopped job's folder of segments, which a test may damage."""
    shutil.copytree(stopped_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "out.mp4.segments"


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "truncated": lambda path, _: path.write_bytes(path.read_bytes()[:-200]),
    "zeros": lambda path, _: path.write_bytes(bytes(path.stat().st_size)),
    "another valid video": lambda path, other: shutil.copy(other, path),
    "removed": lambda path, _: path.unlink(),
}


@pytest.mark.parametrize(
    ("damage", "numbers"),
    [("truncated", [3]), ("zeros", [1]), ("another valid video", [0, 2]), ("removed", [0]), ("removed", [0, 1, 2, 3])],
)
def test_damaged_segments_are_made_again(
    clips: Path, uncalibrated: Path, stopped: Path, damage: str, numbers: list[int]
) -> None:
    """The other segments' files stay unchanged. The result equals that of a job that was never stopped."""
    source, output, whole = clips / "cut.mp4", stopped.with_name("out.mp4"), stopped.with_name("whole.mp4")
    finished = [stopped / segment["file"]["path"] for segment in segments_of(stopped)]
    for number in numbers:
        DAMAGES[damage](finished[number], finished[(number + 1) % 4])
    others = [path for number, path in enumerate(finished) if number not in numbers]
    before = [path.stat().st_mtime_ns for path in others]
    count = len(frames_of(source))
    # Stop at the last frame, because a job that ends removes its segments.
    done = job(source, output, uncalibrated, "0.8", how="SIGINT", last=count - 1)
    assert done.stdout == f"{count} True\n", done.stderr
    assert packets(output, "video") == packets(whole, "video") != []
    assert frames_of(output) == frames_of(whole)
    assert [path.stat().st_mtime_ns for path in others] == before


def test_files_that_the_job_has_not_written_stay_in_its_folder(clips: Path, uncalibrated: Path, stopped: Path) -> None:
    source, output = clips / "cut.mp4", stopped.with_name("out.mp4")
    (stopped / "00001.mp4").rename(stopped.with_name("moved.mp4"))
    (stopped / "00001.mp4").mkdir()
    done = job(source, output, uncalibrated, "0.8")
    assert f"{stopped / '00001.mp4'} is a folder" in done.stderr
    (stopped / "00001.mp4").rename(stopped / "mine")
    (stopped / "notes.txt").touch()
    done = job(source, output, uncalibrated, "0.8")
    assert done.stdout == f"{len(frames_of(source))} False\n", done.stderr
    assert packets(output, "video") == packets(stopped.with_name("whole.mp4"), "video")
    assert sorted(path.name for path in stopped.iterdir()) == ["mine", "notes.txt"]


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "elsewhere": lambda line: line["file"].update(path="../00000.mp4"),
    "another's": lambda line: line["file"].update(path="00001.mp4"),
    "another number": lambda line: line.update(number=2),
    "another place": lambda line: line.update(first=5),
    "negative": lambda line: line.update(start=-1),
    "endless": lambda line: line.update(start=10**30),
    "sample": lambda line: line.update(sample=2**40),
    "field": lambda line: line.pop("frames"),
    "later": lambda line: line.update(start=line["start"] + 1),
    "next sample": lambda line: line.update(sample=line["sample"] + 1),
}
POSSIBLE = ("later", "next sample")
"""Changes that only the checksum of the line reveals."""


@pytest.mark.parametrize("change", CHANGES)
def test_segments_of_a_changed_line_are_made_again(clips: Path, uncalibrated: Path, stopped: Path, change: str) -> None:
    """This holds also if the line has a right checksum, but cannot be true."""
    first, *others = segments_of(stopped)
    CHANGES[change](first)
    if change not in POSSIBLE:
        with suppress(msgspec.ValidationError):
            first = msgspec.to_builtins(with_checksum(msgspec.convert(first, SegmentRecord)))
    (stopped / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in (first, *others)))
    output = stopped.with_name("out.mp4")
    assert job(clips / "cut.mp4", output, uncalibrated, "0.8").returncode == 0
    assert output.read_bytes() == stopped.with_name("whole.mp4").read_bytes()


def test_a_job_with_more_segments_than_the_video_has_is_refused(clips: Path, uncalibrated: Path, stopped: Path) -> None:
    before = stopped.with_name("out.mp4").read_bytes()
    journal = open_journal(stopped)
    first = journal.find(lambda line: line.number)[0]
    for number in range(4, 20):
        shutil.copy(stopped / "00000.mp4", stopped / f"{number:05d}.mp4")
        file = describe_file(stopped, f"{number:05d}.mp4")
        journal.append(msgspec.structs.replace(first, number=number, first=10 * number, file=file))
    done = job(clips / "cut.mp4", stopped.with_name("out.mp4"), uncalibrated, "0.8")
    assert "frames, fewer than the finished segments: start again with `force`" in done.stderr.splitlines()[-1]
    assert stopped.with_name("out.mp4").read_bytes() == before


def test_a_segment_damaged_while_the_job_runs_is_not_joined(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    with load(uncalibrated, backend="cpu", threads=1) as pipe:

        def show(frame: Frame, _: TimedFrame) -> None:
            if frame.number == 40:
                DAMAGES["zeros"](folder_of(output) / "00000.mp4", output)

        job = video_job(pipe, clips / "cut.mp4", output, segment_frames=10, show=show)
        with pytest.raises(UnwritableVideo, match=r"segment 0 in .* has changed .* starts at the beginning"):
            job.run()
        assert not output.exists()
        job.source = FileSource(clips / "cut.mp4")
        assert job.run().frames == len(frames_of(output)) == len(frames_of(clips / "cut.mp4"))
