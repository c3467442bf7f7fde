"""Damaged segments of a stopped job, and records of segments that cannot be right."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clips import frames_of, packets
from video_jobs import video_job
from video_runs import job, segments_of

from caflow_deploy.video.file_source import FileSource
from caflow_deploy.video.frame_source import TimedFrame, UnwritableVideo
from caflow_deploy.video.segment_store import JOURNAL, SegmentRecord, folder_of, open_journal
from caflow_runtime.bundle.reading import describe_file
from caflow_runtime.file_io.line_checksum import with_checksum
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.pipeline.stream import Frame


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
