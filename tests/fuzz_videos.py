"""Broken videos and journals of their jobs: refused, or what is left of them is what it was."""

import random
from pathlib import Path

from clips import ffmpeg
from fuzzing import REFUSED, Attempt
from mutations import changed_bytes, changed_json

from caflow_runtime.bundle.reading import describe_file
from caflow_runtime.errors import CaflowError, InputError
from caflow_runtime.strict_json import read_json
from caflow_runtime.video.journal import NAME, Segment, open_journal, segment_name
from caflow_runtime.video.source import FileSource

PICTURE = ("-f", "lavfi", "-i", "testsrc=size=32x24:rate=10:duration=0.6")
SOUND = ("-f", "lavfi", "-i", "sine=frequency=440:duration=0.6")
MOST_FRAMES = 200
SETTINGS = {"bundle": "0" * 64, "temperature": [0.8], "n": 2, "codec": "h264"}


def videos(folder: Path) -> Attempt:
    """Of several containers and codecs, with sound and without."""
    good = []
    for name, options in {
        "plain.mp4": ("-c:v", "libx264"),
        "sound.mkv": ("-c:v", "libx264", "-bf", "2"),
        "old.avi": ("-c:v", "mjpeg", "-metadata", "title=Café"),
        "stream.ts": ("-c:v", "mpeg2video"),
        "web.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime"),
        "moving.gif": (),
    }.items():
        sound = SOUND if name == "sound.mkv" else ()
        ffmpeg(*PICTURE, *sound, *options, folder / name)
        good.append((Path(name).suffix, (folder / name).read_bytes()))

    def attempt(source: random.Random) -> str:
        suffix, contents = source.choice(good)
        path = folder / f"broken{suffix}"
        path.write_bytes(changed_bytes(source, contents))
        last = -1
        try:
            video = FileSource(path)
            for number, frame in enumerate(video.frames()):
                assert frame.image.ndim == 3
                assert frame.ticks > last
                last = frame.ticks
                if number == MOST_FRAMES:
                    break
        except CaflowError:
            return REFUSED
        return "ended early" if video.ended_early else "read"

    return attempt


def journals(folder: Path) -> Attempt:
    """What a stopped job says of itself, or what it has made, is something else."""
    parts = folder / "out.mp4.parts"
    parts.mkdir()
    source_file = folder / "source.mp4"
    ffmpeg(*PICTURE, "-c:v", "libx264", source_file)
    segments = []
    for number in range(2):
        name = segment_name(number, ".mp4")
        ffmpeg(*PICTURE, "-frames:v", "3", "-c:v", "libx264", parts / name)
        segments.append(Segment(describe_file(parts, name), 3, 27000 * number, number))
    new = folder / "new.parts"
    new.mkdir()
    good = open_journal(new, source_file, "source.mp4", SETTINGS, resume=False)
    good.segments = segments
    good.write(parts)
    contents = {path.name: path.read_bytes() for path in parts.iterdir()}
    as_json = read_json(parts / NAME, dict)

    def attempt(source: random.Random) -> str:
        name = source.choice([NAME, NAME, *contents])
        in_json = name == NAME and source.random() < 0.7
        (parts / name).write_bytes(changed_json(source, as_json) if in_json else changed_bytes(source, contents[name]))
        try:
            found = open_journal(parts, source_file, "source.mp4", SETTINGS, resume=True)
            damaged = found.damaged(parts)
        except InputError:
            return REFUSED
        finally:
            is_same = (parts / name).read_bytes() == contents[name]
            (parts / name).write_bytes(contents[name])
        assert found.segments == segments, "another journal"
        assert name == NAME or is_same or damaged == [int(name.removesuffix(".mp4"))]
        return "damaged" if damaged else "the same"

    return attempt
