"""Environment variables that keep image and video libraries from printing messages of their own."""

import os

FFMPEG_QUIET = "-8"
"""FFmpeg's log level that prints nothing."""
SVT_ERRORS = "1"
"""Log level of the AV1 encoder SVT-AV1 that prints errors only."""


def silence() -> None:
    """Set the variables, unless the user has set them. Must be called before OpenCV is imported.

    Otherwise OpenCV, and FFmpeg inside it, print their own messages about unreadable files as well.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", FFMPEG_QUIET)
    os.environ.setdefault("SVT_LOG", SVT_ERRORS)
