"""Side data of decoded frames, such as display matrices and HDR10 metadata."""

from collections.abc import Mapping
from typing import Any


def side_data_of(frame: Any) -> Mapping[str, Any] | None:
    """Return the side data of a PyAV frame by the names of their kinds; None if PyAV cannot read them.

    PyAV refuses to read any if FFmpeg attached a kind that it does not know, such as the EXIF metadata of Motion-JPEG.
    """
    try:
        return {side_data.type.name: side_data for side_data in frame.side_data}
    except ValueError:
        return None
