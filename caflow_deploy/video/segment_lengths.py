"""Lengths of the segments of a video. The first ones are short, so that a command stopped early loses little."""

FIRST_FRAMES = 15
"""Number of frames of the first segment. Each further segment has twice as many, up to the usual number."""
SEGMENT_FRAMES = 240
"""Usual number of frames of a segment."""


def first_frame(number: int, segment_frames: int) -> int:
    """Return the number of a segment's first frame, from 0.

    Arguments:
        number: number of the segment, from 0.
        segment_frames: usual number of frames of a segment, at least 1.
    """
    short = min(number, ((segment_frames - 1) // FIRST_FRAMES).bit_length())
    return FIRST_FRAMES * ((1 << short) - 1) + (number - short) * segment_frames


def frames_of_segment(number: int, segment_frames: int) -> int:
    """Return the number of frames of a segment. The last segment of a video may be shorter."""
    return first_frame(number + 1, segment_frames) - first_frame(number, segment_frames)
