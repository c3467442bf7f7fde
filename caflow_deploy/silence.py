"""Keeps libraries of images and videos from reporting on their own what the commands report."""

import os

FFMPEG_QUIET = "-8"
SVT_ERRORS = "1"
"""Of the encoder of AV1."""


def silence() -> None:
    """OpenCV, and FFmpeg in it, report what they cannot read on their own as well. Before they are imported."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", FFMPEG_QUIET)
    os.environ.setdefault("SVT_LOG", SVT_ERRORS)
