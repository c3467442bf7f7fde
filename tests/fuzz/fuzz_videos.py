"""Fuzzing of video files and of YUV4MPEG2 streams: damage is refused, or only undamaged parts are used."""

import random
from pathlib import Path

import pytest
from clips import ffmpeg
from fuzzing import REFUSED, Attempt
from mutations import changed_bytes

from caflow_deploy.video.any_source import open_video
from caflow_deploy.video.frame_source import Source
from caflow_deploy.video.pipe import PipeSource
from caflow_runtime.errors import CaflowError

PICTURE = ("-f", "lavfi", "-i", "testsrc=size=32x24:rate=10:duration=0.6")
SOUND = ("-f", "lavfi", "-i", "sine=frequency=440:duration=0.6")
MAX_FRAMES = 200


def videos(folder: Path) -> Attempt:
    """Change a video file. The files have several containers and codecs, with and without sound."""
    good = []
    for name, options in {
        "plain.mp4": ("-c:v", "libx264"),
        "sound.mkv": ("-c:v", "libx264", "-bf", "2"),
        "old.avi": ("-c:v", "mjpeg", "-metadata", "title=Café"),
        "stream.ts": ("-c:v", "mpeg2video"),
        "web.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime"),
        "moving.gif": (),
        "moving.png": ("-f", "apng"),
        "moving.webp": ("-c:v", "libwebp_anim"),
    }.items():
        sound = SOUND if name == "sound.mkv" else ()
        ffmpeg(*PICTURE, *sound, *options, folder / name)
        good.append((Path(name).suffix, (folder / name).read_bytes()))
    lists = [f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{folder / 'plain.mp4'}\n#EXT-X-ENDLIST\n".encode()]
    lists.append(b"ffconcat version 1.0\nfile plain.mp4\n")

    def attempt(source: random.Random) -> str:
        if source.random() < 0.1:  # of other files, which must not be read
            (folder / "list.mp4").write_bytes(changed_bytes(source, source.choice(lists)))
            with pytest.raises(CaflowError):
                read_all(open_video(folder / "list.mp4"))
            return REFUSED
        suffix, contents = source.choice(good)
        path = folder / f"broken{suffix}"
        path.write_bytes(changed_bytes(source, contents))
        try:
            return read_all(open_video(path))
        except CaflowError:
            return REFUSED

    return attempt


def pipes(folder: Path) -> Attempt:
    """Change the header or the whole of a YUV4MPEG2 stream."""
    path = folder / "pipe.y4m"
    good = []
    for pixel_format in ("yuv420p", "yuv444p10le", "gray"):
        ffmpeg(*PICTURE, "-pix_fmt", pixel_format, "-strict", -1, path)
        good.append(path.read_bytes())

    def attempt(source: random.Random) -> str:
        contents = source.choice(good)
        head, line, planes = contents.partition(b"\n")
        is_head = source.random() < 0.5
        path.write_bytes(changed_bytes(source, head) + line + planes if is_head else changed_bytes(source, contents))
        try:
            with path.open("rb") as file:
                return read_all(PipeSource(file.fileno(), "pipe"))
        except CaflowError:
            return REFUSED

    return attempt


def read_all(video: Source) -> str:
    """Read the first frames, check that each is an image and later than the one before, and return the outcome."""
    last = -1
    for number, frame in enumerate(video.frames()):
        assert frame.image.ndim == 3
        assert frame.ticks > last
        last = frame.ticks
        if number == MAX_FRAMES:
            break
    return "ended early" if video.ended_early else "read"
