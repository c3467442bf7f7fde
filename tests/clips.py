"""FFmpeg for tests: makes clips, and what PyAV reads of them."""

import hashlib
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


def packets(path: Path, kind: str) -> list[str]:
    """Hashes of the packets of a kind of stream."""
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        demuxed = container.demux(streams) if streams else ()
        return [hashlib.sha256(bytes(packet)).hexdigest() for packet in demuxed if packet.size]
