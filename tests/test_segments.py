"""Segments of a video that separate processes draw: joined, they equal the result of one process."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
from clips import FFMPEG, frames_of, packets
from segment_clips import CLIPS, SEGMENT_FRAMES, clips
from video_jobs import H264, video_job, video_settings

from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_runtime.pipeline.results import REJECTED
from caflow_runtime.pipeline.stream import Frame, StreamSettings
from caflow_runtime.rows.draw import Draw
from caflow_runtime.video.encoding import Encoding
from caflow_runtime.video.file_source import FileSource
from caflow_runtime.video.job import TakeFrame, VideoDrawing
from caflow_runtime.video.parts import (
    Report,
    VideoSettings,
    open_parts,
    read_records,
    remove_parts,
    write_record,
)
from caflow_runtime.video.segment_count import SegmentCount
from caflow_runtime.video.segment_plan import Plan, plan_segments
from caflow_runtime.video.segments import draw_segment, join_segments
from caflow_runtime.video.source import TimedFrame, UnreadableVideo, UnwritableVideo

__all__ = ["clips"]  # a fixture

BEST_OF_4 = StreamSettings(Draw(4, seed=10, rank="consistency"))
"""Settings with which a later frame of the scene would choose another sample than its first frame."""


@pytest.fixture(scope="module")
def pipe(uncalibrated: Path) -> Iterator[Pipeline]:
    with load(uncalibrated, backend="cpu", threads=1) as pipe:
        yield pipe


def in_one_process(pipe: Pipeline, source: Path, output: Path, settings: StreamSettings) -> VideoDrawing:
    return video_job(pipe, source, output, settings, SEGMENT_FRAMES).run()


def in_segments(pipe: Pipeline, source: Path, output: Path, settings: StreamSettings) -> tuple[Plan, list[Report]]:
    """Draw all segments, the last one first, and join them."""
    planned, folder = plan_segments(source, SEGMENT_FRAMES), output.with_suffix(".segments")
    folder.mkdir()
    drawn = [draw_segment(pipe, segment, source, settings, H264, folder) for segment in reversed(planned.segments)]
    assert join_segments(drawn, H264, folder, source, output) == []
    return planned, drawn[::-1]


@pytest.mark.parametrize(
    "settings",
    [
        StreamSettings(),
        BEST_OF_4,
        StreamSettings(Draw(2), "fresh"),
        StreamSettings(Draw(2, (0.7, 0.9)), 0.8),
    ],
    ids=["fixed", "best of 4", "fresh", "drifting"],
)
def test_they_are_what_one_process_makes(pipe: Pipeline, clips: Path, tmp_path: Path, settings: StreamSettings) -> None:
    source, whole, joined = clips / "scenes.mp4", tmp_path / "whole.mp4", tmp_path / "joined.mp4"
    drawing = in_one_process(pipe, source, whole, settings)
    planned, reports = in_segments(pipe, source, joined, settings)
    begins = [(segment.scene, segment.scene_start.first) for segment in planned.segments]
    assert begins == [(0, 0), (0, 0), (2, 20), (2, 20)]
    assert planned.frames == drawing.frames == sum(report.frames for report in reports) == 36
    assert all(report.drawn and np.isfinite(report.bits_per_dim or np.nan) for report in reports)
    assert joined.read_bytes() == whole.read_bytes()
    assert packets(joined, "audio") == packets(source, "audio") != []


@pytest.mark.full
@pytest.mark.parametrize("name", CLIPS)
def test_other_files(pipe: Pipeline, clips: Path, tmp_path: Path, name: str) -> None:
    settings = StreamSettings(Draw(2))
    in_one_process(pipe, clips / name, tmp_path / "whole.mp4", settings)
    in_segments(pipe, clips / name, tmp_path / "joined.mp4", settings)
    assert (tmp_path / "joined.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


SCRIPT = """
import sys
from pathlib import Path
import msgspec
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.video.segment_plan import Plan
from caflow_runtime.pipeline.results import REJECTED
from caflow_runtime.pipeline.stream import Frame, StreamSettings
from caflow_runtime.video.segments import draw_segment
from caflow_runtime.video.encoding import Encoding
bundle, source, folder, settings, part = sys.argv[1:]
settings = msgspec.json.decode(settings, type=StreamSettings)
planned = msgspec.json.decode((Path(folder) / "plan").read_bytes(), type=Plan)
with load(bundle, backend="cpu", threads=1) as pipe:
    for segment in planned.segments[int(part)::2]:
        draw_segment(pipe, segment, Path(source), settings, Encoding("h264", 18, 8), Path(folder))
"""


def test_two_processes_draw_one_video(pipe: Pipeline, clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    source, folder = clips / "scenes.mp4", tmp_path / "segments"
    folder.mkdir()
    planned = plan_segments(source, SEGMENT_FRAMES)
    (folder / "plan").write_bytes(msgspec.json.encode(planned))
    command = [sys.executable, "-c", SCRIPT, str(uncalibrated), str(source), str(folder)]
    command.append(msgspec.json.encode(BEST_OF_4).decode())
    running = [subprocess.Popen([*command, part]) for part in "01"]
    try:
        assert [process.wait() for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
            process.wait()
    reports = [draw_segment(pipe, segment, source, BEST_OF_4, H264, folder) for segment in planned.segments]
    assert not any(report.drawn for report in reports)
    join_segments(reports, H264, folder, source, tmp_path / "joined.mp4")
    in_one_process(pipe, source, tmp_path / "whole.mp4", BEST_OF_4)
    assert (tmp_path / "joined.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert {path.suffix for path in folder.iterdir()} == {".mp4", ".json", ""}


def test_a_segment_is_drawn_once_and_again_where_it_is_not_whole(pipe: Pipeline, clips: Path, tmp_path: Path) -> None:
    source, settings = clips / "scenes.mp4", StreamSettings()
    segment = plan_segments(source, SEGMENT_FRAMES).segments[1]

    def draw(settings: StreamSettings = settings, encoding: Encoding = H264) -> bool:
        return draw_segment(pipe, segment, source, settings, encoding, tmp_path).drawn

    assert [draw(), draw()] == [True, False]
    file, kept = tmp_path / "00001.mp4", tmp_path / "00001.json"
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    assert [draw(), draw(), file.read_bytes() == content] == [True, False, True]
    file.write_bytes(bytes(len(content)))
    assert [draw(), draw(), file.read_bytes() == content] == [True, False, True]
    file.unlink()
    assert [draw(), draw(), file.read_bytes() == content] == [True, False, True]
    kept.write_bytes(kept.read_bytes()[:-5])
    assert [draw(), draw()] == [True, False]
    kept.write_bytes(kept.read_bytes().replace(b'"start":', b'"start":1'))  # another start time
    assert [draw(), draw()] == [True, False]
    assert [draw(StreamSettings(Draw(1, seed=1))), draw(), draw(encoding=replace(H264, crf=30))] == [True, True, True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00001.json", "00001.mp4"]


def test_a_segment_that_has_changed_is_not_joined(pipe: Pipeline, clips: Path, tmp_path: Path) -> None:
    source, output = clips / "scenes.mp4", tmp_path / "out.mp4"
    drawn = [
        draw_segment(pipe, s, source, StreamSettings(), H264, tmp_path) for s in plan_segments(source, 10).segments
    ]
    first, second = (tmp_path / name for name in ("00000.mp4", "00001.mp4"))
    content = first.read_bytes()
    for wrong in (bytes(len(content)), content[:-100], second.read_bytes(), None):
        first.unlink() if wrong is None else first.write_bytes(wrong)
        with pytest.raises(UnwritableVideo, match=r"00000\.mp4 is missing or has changed since it was drawn"):
            join_segments(drawn, H264, tmp_path, source, output)
        assert not output.exists()
    first.write_bytes(content)
    join_segments(drawn, H264, tmp_path, source, output)
    assert len(frames_of(output)) == 36


def test_tags_that_are_not_utf_8_are_read(pipe: Pipeline, clips: Path, tmp_path: Path) -> None:
    """Old software writes tags in Latin-1."""
    source, output = tmp_path / "old.avi", tmp_path / "out.mkv"
    command = [FFMPEG, "-y", "-v", "error", "-i", clips / "b_frames.avi", "-c", "copy", "-metadata", b"title=Caf\xe9"]
    subprocess.run([*command, source], check=True)
    in_segments(pipe, source, output, StreamSettings())
    with av.open(str(output)) as container:
        assert container.metadata["title"] == "Café"


def test_what_is_not_typical_is_left_out_alike(calibrated: Path, clips: Path, tmp_path: Path) -> None:
    source, settings = clips / "scenes.mp4", StreamSettings(noise="fresh", min_typicality=0.95, untypical="drop")
    with load(calibrated, backend="cpu", threads=1) as pipe:
        drawing = in_one_process(pipe, source, tmp_path / "whole.mp4", settings)
        _, reports = in_segments(pipe, source, tmp_path / "joined.mp4", settings)
    assert {report.start is None for report in reports} == {True, False}  # some segments are dropped whole
    assert drawing.untypical == sum(report.untypical for report in reports) > 0
    assert (tmp_path / "joined.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_of_a_cut_off_file_there_is_what_it_has(pipe: Pipeline, clips: Path, tmp_path: Path) -> None:
    whole, source = (clips / "open.mkv").read_bytes(), tmp_path / "cut.mkv"
    source.write_bytes(whole[: 2 * len(whole) // 3])
    drawing = in_one_process(pipe, source, tmp_path / "whole.mp4", StreamSettings())
    planned, _ = in_segments(pipe, source, tmp_path / "joined.mp4", StreamSettings())
    assert planned.ended_early == drawing.ended_early is not None
    assert 10 < planned.frames < len(frames_of(clips / "open.mkv"))
    assert (tmp_path / "joined.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_a_folder_belongs_to_one_job(pipe: Pipeline, clips: Path, tmp_path: Path) -> None:
    """Segments with other settings, of another source or with other tiles are rejected. Other files stay."""
    folder, source = tmp_path / "out.mp4.parts", clips / "scenes.mp4"
    folder.mkdir()

    def settings(source: Path = source, seed: int = 0, pixel_budget: int | None = None) -> VideoSettings:
        streaming = StreamSettings(Draw(1, seed=seed))
        return video_settings(pipe, FileSource(source), streaming, SEGMENT_FRAMES, pixel_budget)

    open_parts(folder, settings(), force=False)
    segment = plan_segments(source, SEGMENT_FRAMES).segments[0]
    draw_segment(pipe, segment, source, StreamSettings(), H264, folder)
    left = [".00000.mp4.0123abcd.partial", ".job.json.0123abcd.partial", ".00001.json.0123abcd.partial"]
    for name in left:  # left by killed processes
        (folder / name).touch()
    open_parts(folder, settings(), force=False)
    assert sorted(path.name for path in folder.iterdir()) == ["00000.json", "00000.mp4", "job.json"]
    for other, differing in (
        (settings(seed=1), r"--seed 0 \(now 1\)"),
        (settings(pixel_budget=4096), r"--pixel-budget not given \(now 4096\)"),
        (settings(clips / "vfr.mp4"), "the input file has changed"),
    ):
        with pytest.raises(InputError, match=f"contains a job with other settings: {differing}"):
            open_parts(folder, other, force=False)
    (folder / "notes.txt").touch()
    open_parts(folder, settings(seed=1), force=True)
    assert sorted(path.name for path in folder.iterdir()) == ["job.json", "notes.txt"]
    remove_parts(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").rename(folder / "00001.mp4")  # without a job in the folder, this file is not a segment
    for force in (False, True):
        with pytest.raises(InputError, match=r"must be free for the parts of this job, but contains 00001\.mp4"):
            open_parts(folder, settings(), force)
    remove_parts(folder)
    assert [path.name for path in folder.iterdir()] == ["00001.mp4"]


@pytest.mark.parametrize("begun_by", ["one process", "workers"])
def test_a_job_is_resumed_the_other_way(pipe: Pipeline, clips: Path, tmp_path: Path, begun_by: str) -> None:
    """This works with missing segments, too. One process stops in the third segment, and then the first is damaged."""
    source, output, settings = clips / "scenes.mp4", tmp_path / "out.mp4", BEST_OF_4
    job = video_job(pipe, source, output, settings, SEGMENT_FRAMES)
    planned = plan_segments(source, SEGMENT_FRAMES)
    if begun_by == "one process":
        job.show = stopping_after(25)
        assert job.run().stopped
        damaged = job.parts / "00000.mp4"
        damaged.write_bytes(bytes(damaged.stat().st_size))
        open_parts(job.parts, job.settings, force=False)
        assert read_records(job.parts, job.settings, "one process").keys() == {1}
        assert not read_records(job.parts, job.settings, "workers")  # after a gap, the segment may not fit
        reports = [draw_segment(pipe, one, source, settings, H264, job.parts) for one in planned.segments]
        join_segments(reports, H264, job.parts, source, output)
    else:
        job.parts.mkdir()
        open_parts(job.parts, job.settings, force=False)
        for number in (0, 1, 3):
            draw_segment(pipe, planned.segments[number], source, settings, H264, job.parts)
        assert read_records(job.parts, job.settings, "workers").keys() == {0, 1, 3}
        assert read_records(job.parts, job.settings, "one process").keys() == {0, 1}
        drawn: list[int] = []
        job.show = lambda frame, _: drawn.append(frame.number)
        job.run()
        assert drawn == list(range(20, 36))
    in_one_process(pipe, source, tmp_path / "whole.mp4", settings)
    assert output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def stopping_after(count: int) -> TakeFrame:
    def show(frame: Frame, _: TimedFrame) -> None:
        if frame.number == count - 1:
            raise KeyboardInterrupt

    return show


@pytest.mark.parametrize("begun_by", ["one process", "workers"])
def test_where_a_sample_was_not_finite_a_job_is_not_resumed_the_other_way(
    pipe: Pipeline, clips: Path, tmp_path: Path, begun_by: Any
) -> None:
    settings = video_settings(pipe, FileSource(clips / "scenes.mp4"), BEST_OF_4, SEGMENT_FRAMES)
    open_parts(tmp_path, settings, force=False)
    count = SegmentCount(samples=4, sample=2)
    for number in range(SEGMENT_FRAMES):
        sample = 2 if number < 5 else 3
        pixels, levels = np.zeros((4, 4, 3), np.float32), np.zeros(2)
        count.add(Frame(10 + number, pixels, sample, levels, starts_scene=False), 3000 * number, is_dropped=True)
    write_record(tmp_path, count.record(1, SEGMENT_FRAMES, None, begun_by, settings.made_of))
    assert read_records(tmp_path, settings, begun_by).keys() == {1}
    other, way = ("workers", "without") if begun_by == "one process" else ("one process", "with")
    with pytest.raises(InputError, match=f"must be resumed {way} --workers .* in segment 1 a scene's sample"):
        read_records(tmp_path, settings, other)  # type: ignore[arg-type]


def test_a_sample_that_is_chosen_again_is_noticed() -> None:
    """With several samples, a rejected frame counts, and so does a change of the sample within a scene."""

    def settled(samples: int, before: int | None, *drawn: tuple[int, bool]) -> bool:
        count = SegmentCount(samples, before)
        for number, (sample, starts_scene) in enumerate(drawn):
            levels = np.full(2, np.nan if sample == REJECTED else 0.0)
            frame = Frame(number, np.zeros((4, 4, 3), np.float32), sample, levels, starts_scene)
            count.add(frame, number, is_dropped=False)
        return count.is_settled

    assert settled(4, None, (2, True), (2, False), (3, True), (3, False))
    assert settled(4, 1, (1, False), (1, False))
    assert not settled(4, 1, (2, False))
    assert not settled(4, None, (REJECTED, True))
    assert not settled(4, None, (1, True), (REJECTED, False), (1, False))
    assert settled(1, None, (0, True), (REJECTED, False), (0, False))


def test_a_file_that_has_changed_is_refused(pipe: Pipeline, clips: Path, tmp_path: Path) -> None:
    segment = plan_segments(clips / "scenes.mp4", SEGMENT_FRAMES).segments[1]
    with pytest.raises(UnreadableVideo, match="has changed since it was planned: plan it again"):
        draw_segment(pipe, segment, clips / "vfr.mp4", StreamSettings(), H264, tmp_path)
    assert not list(tmp_path.iterdir())


def test_refusals(pipe: Pipeline, clips: Path, tmp_path: Path) -> None:
    source, output = clips / "scenes.mp4", tmp_path / "out.mp4"
    with pytest.raises(InputError, match="segment_frames must be at least 1; got 0"):
        plan_segments(source, 0)
    segments = plan_segments(source, SEGMENT_FRAMES).segments
    with pytest.raises(UnwritableVideo, match=r"00000.mp4 cannot be written: .*No such file"):
        draw_segment(pipe, segments[0], source, StreamSettings(), H264, tmp_path / "nothing")
    report = draw_segment(pipe, segments[0], source, StreamSettings(), H264, tmp_path)
    with pytest.raises(InputError, match="expected each segment once, from 0 on; got 2 instead of 1"):
        join_segments([msgspec.structs.replace(report, number=2), report], H264, tmp_path, source, output)
    with pytest.raises(UnwritableVideo, match="every frame was dropped"):
        join_segments([msgspec.structs.replace(report, start=None)], H264, tmp_path, source, output)
    join_segments([report], H264, tmp_path, source, output)
    assert len(frames_of(output)) == SEGMENT_FRAMES
