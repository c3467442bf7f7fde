"""Frames of one segment: they are the same, wherever seeking leads."""

from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
from segment_clips import CLIPS, SEGMENT_FRAMES, clips

from caflow_deploy.video.file_source import FileSource
from caflow_deploy.video.frame_source import UnreadableVideo
from caflow_deploy.video.segment_plan import pictures, plan_segments

__all__ = ["clips"]  # a fixture


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
