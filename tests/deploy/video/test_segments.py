"""Segments of a video that separate processes draw: joined, they equal the result of one process."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from clips import frames_of, packets
from segment_clips import CLIPS, SEGMENT_FRAMES, clips
from tiny import calibrated_pipe
from video_jobs import H264, video_job, video_settings

from caflow_deploy.video.file_source import FileSource
from caflow_deploy.video.frame_source import TimedFrame, UnreadableVideo, UnwritableVideo
from caflow_deploy.video.job import TakeFrame, VideoOutcome
from caflow_deploy.video.segment_plan import Plan, plan_segments
from caflow_deploy.video.segment_store import (
    JOURNAL,
    SegmentRecord,
    VideoSettings,
    open_folder,
    read_segments,
    remove_segments,
)
from caflow_deploy.video.segments import draw_segment, join_segments
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import Frame, StreamSettings

__all__ = ["calibrated_pipe", "clips"]  # fixtures

BEST_OF_4 = StreamSettings(draw=DrawOptions(4, seed=10, rank="consistency"))
"""Settings with which a later frame of the scene would choose another sample than its first frame."""


def alone_and_joined(
    pipe: Pipeline, source: Path, folder: Path, settings: StreamSettings
) -> tuple[VideoOutcome, Plan, list[SegmentRecord]]:
    """Draw a video in one process to whole.mp4, and in segments, the last one first, to joined.mp4: the same bytes."""
    whole, joined, parts = folder / "whole.mp4", folder / "joined.mp4", folder / "parts"
    parts.mkdir()
    drawing = video_job(pipe, source, whole, settings, SEGMENT_FRAMES).run()
    planned = plan_segments(source, SEGMENT_FRAMES)
    reports = [draw_segment(pipe, segment, source, settings, H264, parts) for segment in reversed(planned.segments)]
    assert join_segments(reports, parts, FileSource(source), joined) == []
    assert joined.read_bytes() == whole.read_bytes()
    return drawing, planned, reports


@pytest.mark.parametrize(
    "settings",
    [
        StreamSettings(),
        BEST_OF_4,
        StreamSettings(draw=DrawOptions(2), noise="fresh"),
        StreamSettings(draw=DrawOptions(2, (0.7, 0.9)), noise=0.8),
    ],
    ids=["fixed", "best of 4", "fresh", "drifting"],
)
def test_joined_segments_equal_one_process(
    pipe: Pipeline, clips: Path, tmp_path: Path, settings: StreamSettings
) -> None:
    source = clips / "scenes.mp4"
    drawing, planned, reports = alone_and_joined(pipe, source, tmp_path, settings)
    begins = [(segment.scene, segment.scene_start.first) for segment in planned.segments]
    assert begins == [(0, 0), (0, 0), (2, 20), (2, 20)]
    assert planned.frames == drawing.frames == sum(report.frames for report in reports) == 36
    assert all(np.isfinite(report.bits_per_dim or np.nan) for report in reports)
    assert packets(tmp_path / "joined.mp4", "audio") == packets(source, "audio") != []


@pytest.mark.full
@pytest.mark.parametrize("name", CLIPS)
def test_joined_segments_of_other_files_equal_one_process(
    pipe: Pipeline, clips: Path, tmp_path: Path, name: str
) -> None:
    alone_and_joined(pipe, clips / name, tmp_path, StreamSettings(draw=DrawOptions(2)))


def test_untypical_frames_are_left_out_as_by_one_process(
    calibrated_pipe: Pipeline, clips: Path, tmp_path: Path
) -> None:
    settings = StreamSettings(draw=DrawOptions(1, min_typicality=0.95, otherwise="drop"), noise="fresh")
    drawing, _, reports = alone_and_joined(calibrated_pipe, clips / "scenes.mp4", tmp_path, settings)
    assert {report.start is None for report in reports} == {True, False}  # some segments are dropped whole
    assert drawing.untypical == sum(report.untypical for report in reports) > 0


def test_a_truncated_file_gives_the_frames_that_it_has(pipe: Pipeline, clips: Path, tmp_path: Path) -> None:
    whole, source = (clips / "open.mkv").read_bytes(), tmp_path / "cut.mkv"
    source.write_bytes(whole[: 2 * len(whole) // 3])
    drawing, planned, _ = alone_and_joined(pipe, source, tmp_path, StreamSettings())
    assert planned.ended_early == drawing.ended_early is not None
    assert 10 < planned.frames < len(frames_of(clips / "open.mkv"))


def test_a_folder_belongs_to_one_job(pipe: Pipeline, clips: Path, tmp_path: Path) -> None:
    """Segments are removed with it. Other files stay."""
    folder, source = tmp_path / "out.mp4.segments", clips / "scenes.mp4"
    folder.mkdir()

    def settings(seed: int = 0) -> VideoSettings:
        streaming = StreamSettings(draw=DrawOptions(1, seed=seed))
        return video_settings(pipe, FileSource(source), streaming, SEGMENT_FRAMES)

    open_folder(folder, settings(), force=False)
    segment = plan_segments(source, SEGMENT_FRAMES).segments[0]
    draw_segment(pipe, segment, source, StreamSettings(), H264, folder)
    left = [".00000.mp4.0123abcd.partial", ".job.json.0123abcd.partial", f".{JOURNAL}.0123abcd.partial"]
    for name in left:  # left by killed processes
        (folder / name).touch()
    open_folder(folder, settings(), force=False)
    assert sorted(path.name for path in folder.iterdir()) == ["00000.mp4", "job.json"]
    (folder / "notes.txt").touch()
    open_folder(folder, settings(seed=1), force=True)
    assert sorted(path.name for path in folder.iterdir()) == ["job.json", "notes.txt"]
    remove_segments(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").rename(folder / "00001.mp4")  # without a job in the folder, this file is not a segment
    for force in (False, True):
        with pytest.raises(InputError, match=r"must be free for the segments of this job, but contains 00001\.mp4"):
            open_folder(folder, settings(), force)
    remove_segments(folder)
    assert [path.name for path in folder.iterdir()] == ["00001.mp4"]


@pytest.mark.parametrize("begun_by", ["one process", "workers"])
@pytest.mark.parametrize("resumed_by", ["one process", "workers"])
def test_a_job_is_resumed_by_both(pipe: Pipeline, clips: Path, tmp_path: Path, begun_by: str, resumed_by: str) -> None:
    """Segments may be missing in the middle: the job was stopped, and then a file was damaged."""
    source, output, settings = clips / "scenes.mp4", tmp_path / "out.mp4", BEST_OF_4
    planned = plan_segments(source, SEGMENT_FRAMES).segments

    def run(way: str, numbers: range, show: TakeFrame | None = None) -> VideoOutcome:
        job = video_job(pipe, source, output, settings, SEGMENT_FRAMES, show)
        if way == "one process":
            return job.run()
        job.folder.mkdir(exist_ok=True)
        records = job.open(force=False)

        def drawn() -> Iterator[SegmentRecord]:
            for number in set(numbers) - records.keys():
                yield draw_segment(pipe, planned[number], source, settings, H264, job.folder)
            if len(numbers) < len(planned):
                raise KeyboardInterrupt

        return job.take(drawn(), records)

    def stop_after_35(frame: Frame, _: TimedFrame) -> None:
        if frame.number == 34:
            raise KeyboardInterrupt

    job = video_job(pipe, source, output, settings, SEGMENT_FRAMES)
    assert run(begun_by, range(3), stop_after_35).stopped
    assert len(frames_of(output)) == (35 if begun_by == "one process" else 30)
    damaged = job.folder / "00001.mp4"
    damaged.write_bytes(bytes(damaged.stat().st_size))
    assert read_segments(job.folder, job.settings).keys() == {0, 2}
    drawn: list[int] = []
    run(resumed_by, range(4), lambda frame, _: drawn.append(frame.number))
    assert drawn == ([*range(10, 20), *range(30, 36)] if resumed_by == "one process" else [])
    video_job(pipe, source, tmp_path / "whole.mp4", settings, SEGMENT_FRAMES).run()
    assert output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert not job.folder.exists()


def test_wrong_segments_are_refused_by_name(pipe: Pipeline, clips: Path, tmp_path: Path) -> None:
    source, output = clips / "scenes.mp4", tmp_path / "out.mp4"
    with pytest.raises(InputError, match="segment_frames must be at least 1; got 0"):
        plan_segments(source, 0)
    segments = plan_segments(source, SEGMENT_FRAMES).segments
    with pytest.raises(UnwritableVideo, match=r"00000.mp4 cannot be written: .*No such file"):
        draw_segment(pipe, segments[0], source, StreamSettings(), H264, tmp_path / "nothing")
    with pytest.raises(UnreadableVideo, match="has changed since it was planned: plan it again"):
        draw_segment(pipe, segments[1], clips / "vfr.mp4", StreamSettings(), H264, tmp_path)
    assert not list(tmp_path.iterdir())
    report = draw_segment(pipe, segments[0], source, StreamSettings(), H264, tmp_path)
    with pytest.raises(InputError, match="expected each segment once, from 0 on; got 2 instead of 1"):
        join_segments([msgspec.structs.replace(report, number=2), report], tmp_path, FileSource(source), output)
    with pytest.raises(UnwritableVideo, match="every frame was dropped"):
        join_segments([msgspec.structs.replace(report, start=None)], tmp_path, FileSource(source), output)
    join_segments([report], tmp_path, FileSource(source), output)
    assert len(frames_of(output)) == SEGMENT_FRAMES
