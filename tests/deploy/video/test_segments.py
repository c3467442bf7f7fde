"""Segments of a video, which separate processes draw: their frames are the same wherever seeking leads, and joined,
they equal the result of one process."""

from collections.abc import Iterator
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
from clips import UNEVEN, ffmpeg, frames_of, packets
from tiny import calibrated_pipe
from video_jobs import H264, video_job, video_settings

from caflow_deploy.video.file_source import FileSource
from caflow_deploy.video.frame_source import TimedFrame, UnreadableVideo, UnwritableVideo
from caflow_deploy.video.job import TakeFrame, VideoOutcome
from caflow_deploy.video.segment_plan import Plan, pictures, plan_segments
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

__all__ = ["calibrated_pipe"]  # a fixture

SEGMENT_FRAMES = 10
X264 = ["-c:v", "libx264", "-crf", 20]
CLIPS = ["scenes.mp4", "vfr.mp4", "open.mkv", "far.mp4", "late.ts", "mpeg2.ts", "b_frames.avi", "raw.h264"]
CLIPS += ["refresh.mkv", "false_keys.mp4"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 32×16 clips. In `scenes.mp4`, one scene starts within a segment, and one where a segment starts."""
    folder = tmp_path_factory.mktemp("clips")
    scenes = ["testsrc2=s=32x16:r=30,scroll=h=0.07", "mandelbrot=s=32x16:r=30"]
    scenes += ["testsrc2=s=32x16:r=30,negate,scroll=v=0.13"]
    inputs = [part for scene in scenes for part in ("-f", "lavfi", "-i", scene)]
    trims = [f"[{k}:v]trim=end_frame={n},format=yuv420p[{k}]" for k, n in enumerate((14, 6, 16))]
    graph = ";".join([*trims, "[0][1][2]concat=n=3[v]"])
    sound = ["-f", "lavfi", "-i", "sine=f=440:r=48000:d=1.2"]
    streams = ["-filter_complex", graph, "-map", "[v]", "-map", "3:a", "-c:a", "aac", "-ac", 2]
    ffmpeg(*inputs, *sound, *streams, *X264, "-bf", 3, "-g", 7, folder / "scenes.mp4")
    moving = ["-f", "lavfi", "-i", "testsrc2=s=32x16:r=30:d=2"]
    thinned = ["-vf", UNEVEN, "-fps_mode", "vfr"]
    ffmpeg(*moving, *thinned, *X264, "-bf", 3, "-g", 8, folder / "vfr.mp4")
    ffmpeg(*moving, *thinned, *X264, "-bf", 3, "-g", 8, "-x264-params", "open-gop=1:scenecut=0", folder / "open.mkv")
    ffmpeg(*moving, *X264, "-bf", 2, "-g", 500, folder / "far.mp4")
    ffmpeg("-i", folder / "vfr.mp4", "-c", "copy", "-output_ts_offset", 5, "-f", "mpegts", folder / "late.ts")
    ffmpeg(*moving, "-c:v", "mpeg2video", "-bf", 2, "-g", 8, folder / "mpeg2.ts")
    ffmpeg(*moving, "-c:v", "mpeg4", "-bf", 2, "-g", 8, folder / "b_frames.avi")
    ffmpeg(*moving, *X264, "-bf", 3, "-g", 8, folder / "raw.h264")
    ffmpeg(*moving, *X264, "-x264-params", "intra-refresh=1:keyint=8", folder / "refresh.mkv")
    ffmpeg(*moving, "-c:v", "mpeg4", "-g", 24, folder / "keys.mp4")
    with av.open(str(folder / "keys.mp4")) as keys, av.open(str(folder / "false_keys.mp4"), "w") as false_keys:
        copy = false_keys.add_stream_from_template(keys.streams.video[0])
        for packet in keys.demux(keys.streams.video[0]):
            packet.is_keyframe, packet.stream = True, copy
            false_keys.mux(packet)
    return folder


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


@pytest.mark.parametrize("name", CLIPS)
def test_a_segment_has_its_frames_wherever_seeking_leads(clips: Path, name: str) -> None:
    every = list(FileSource(clips / name).frames())
    planned = plan_segments(clips / name, SEGMENT_FRAMES)
    assert [time for segment in planned.segments for time in segment.frames.ticks] == [frame.ticks for frame in every]
    for segment in reversed(planned.segments):
        found = list(pictures(clips / name, segment.frames))
        first = segment.frames.first
        np.testing.assert_array_equal(found, [frame.image for frame in every[first : first + len(found)]])
    assert len(found) == SEGMENT_FRAMES


@pytest.mark.parametrize("name", ["vfr.mp4", "open.mkv", "late.ts", "mpeg2.ts"])
def test_frames_far_before_a_segment_are_not_decoded(clips: Path, tmp_path: Path, name: str) -> None:
    stretch = plan_segments(clips / name, SEGMENT_FRAMES).segments[3].frames
    whole = list(pictures(clips / name, stretch))
    with av.open(str(clips / name)) as container:
        places = [(p.pos, p.pos + p.size) for p in container.demux(container.streams.video[0]) if p.pos is not None]
    spoilt = bytearray((clips / name).read_bytes())
    for start, end in places[2:12]:
        if name.endswith(".ts"):  # MPEG-TS packets have 188 bytes, each with a header
            start, end = start + 100, start + 188
        spoilt[start + 8 : end] = bytes(end - start - 8)
    (tmp_path / name).write_bytes(spoilt)
    np.testing.assert_array_equal(list(pictures(tmp_path / name, stretch)), whole)
    with pytest.raises((UnreadableVideo, AssertionError)):  # otherwise the damage had no effect
        np.testing.assert_array_equal(
            [frame.image for frame in FileSource(tmp_path / name).frames()],
            [frame.image for frame in FileSource(clips / name).frames()],
        )


def test_where_seeking_leads_astray_the_file_is_decoded_from_its_beginning(clips: Path) -> None:
    source = clips / "vfr.mp4"
    third, fourth = (segment.frames for segment in plan_segments(source, SEGMENT_FRAMES).segments[2:4])
    right = list(pictures(source, third))
    for astray in (
        msgspec.structs.replace(third, seek=fourth.seek),
        msgspec.structs.replace(third, seek=10**9),
        msgspec.structs.replace(third, checksums=(*third.checksums[:4], 0, *third.checksums[5:])),
    ):
        np.testing.assert_array_equal(list(pictures(source, astray)), right)
