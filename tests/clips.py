"""Helpers that make clips with FFmpeg, and read videos with FFmpeg or PyAV."""

import hashlib
import subprocess
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def ffmpeg(*arguments: object) -> None:
    """Run FFmpeg. An existing output file is overwritten."""
    subprocess.run([FFMPEG, "-y", "-v", "error", *map(str, arguments)], check=True)


def frames_of(path: Path) -> list[tuple[float, tuple[int, int], str]]:
    """Return the time in seconds, the size (width, height) and the pixel format of each frame."""
    with av.open(str(path)) as container:
        decoded = container.decode(container.streams.video[0])
        return [(float(f.time or 0), (f.width, f.height), f.format.name) for f in decoded]


def packets(path: Path, kind: str) -> list[str]:
    """Return the SHA-256 hashes of the packets of all streams of a kind, such as `audio`. Empty packets are skipped."""
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        demuxed = container.demux(streams) if streams else ()
        return [hashlib.sha256(bytes(packet)).hexdigest() for packet in demuxed if packet.size]


def pixels_of(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """Return all frames as FFmpeg decodes them, (frames, height, width, 3) uint8 RGB. None is repeated or dropped."""
    command = [
        FFMPEG,
        "-v",
        "error",
        "-i",
        path,
        "-fps_mode",
        "passthrough",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)


def planes_of(path: Path) -> bytes:
    """Return the bytes of all frames as FFmpeg decodes them, in the pixel format of the file."""
    command = [FFMPEG, "-v", "error", "-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-"]
    return subprocess.run(list(map(str, command)), capture_output=True, check=True).stdout
