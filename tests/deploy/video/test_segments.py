"""Segments of a video that separate processes draw: joined, they equal the result of one process."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from clips import frames_of, packets
from segment_clips import SEGMENT_FRAMES, clips
from video_jobs import H264, video_job, video_settings

from caflow_runtime.batching.sampling_config import SamplingConfig
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import Frame, StreamSettings
from caflow_runtime.video.file_source import FileSource
from caflow_runtime.video.frame_source import TimedFrame, UnreadableVideo, UnwritableVideo
from caflow_runtime.video.job import TakeFrame, VideoOutcome
from caflow_runtime.video.segment_plan import plan_segments
from caflow_runtime.video.segment_store import (
    JOURNAL,
    SegmentRecord,
    VideoSettings,
    open_folder,
    read_segments,
    remove_segments,
)
from caflow_runtime.video.segments import draw_segment, join_segments

__all__ = ["clips"]  # a fixture

BEST_OF_4 = StreamSettings(SamplingConfig(4, seed=10, rank="consistency"))
"""Settings with which a later frame of the scene would choose another sample than its first frame."""


@pytest.mark.parametrize(
    "settings",
    [
        StreamSettings(),
        BEST_OF_4,
        StreamSettings(SamplingConfig(2), "fresh"),
        StreamSettings(SamplingConfig(2, (0.7, 0.9)), 0.8),
    ],
    ids=["fixed", "best of 4", "fresh", "drifting"],
)
def test_joined_segments_equal_one_process(
    pipe: Pipeline, clips: Path, tmp_path: Path, settings: StreamSettings
) -> None:
    source, whole, joined = clips / "scenes.mp4", tmp_path / "whole.mp4", tmp_path / "joined.mp4"
    drawing = video_job(pipe, source, whole, settings, SEGMENT_FRAMES).run()
    planned = plan_segments(source, SEGMENT_FRAMES)
    reports = [draw_segment(pipe, segment, source, settings, H264, tmp_path) for segment in reversed(planned.segments)]
    assert join_segments(reports, tmp_path, FileSource(source), joined) == []
    begins = [(segment.scene, segment.scene_start.first) for segment in planned.segments]
    assert begins == [(0, 0), (0, 0), (2, 20), (2, 20)]
    assert planned.frames == drawing.frames == sum(report.frames for report in reports) == 36
    assert all(np.isfinite(report.bits_per_dim or np.nan) for report in reports)
    assert joined.read_bytes() == whole.read_bytes()
    assert packets(joined, "audio") == packets(source, "audio") != []


def test_a_folder_belongs_to_one_job(pipe: Pipeline, clips: Path, tmp_path: Path) -> None:
    """Segments are removed with it. Other files stay."""
    folder, source = tmp_path / "out.mp4.segments", clips / "scenes.mp4"
    folder.mkdir()

    def settings(seed: int = 0) -> VideoSettings:
        streaming = StreamSettings(SamplingConfig(1, seed=seed))
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
