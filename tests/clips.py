"""FFmpeg for tests: makes clips, and what PyAV reads of them."""

import subprocess
from pathlib import Path

import av
import imageio_ffmpeg

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def ffmpeg(*arguments: object) -> None:
    """Run it; what it writes is overwritten."""
    subprocess.run([FFMPEG, "-y", "-v", "error", *map(str, arguments)], check=True)


def frames_of(path: Path) -> list[tuple[float, tuple[int, int], str]]:
    """Time, size and format of each frame."""
    with av.open(str(path)) as container:
        decoded = container.decode(container.streams.video[0])
        return [(float(f.time or 0), (f.width, f.height), f.format.name) for f in decoded]
