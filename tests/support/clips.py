"""Helpers that make clips with FFmpeg, and read videos with FFmpeg or PyAV."""

import hashlib
import subprocess
from collections import Counter
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()

BT709 = "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,setparams=range=tv:colorspace=bt709"
BT709 += ":color_primaries=bt709:color_trc=bt709"
PQ = "scale=out_color_matrix=bt2020:out_range=tv,format=yuv420p10le,setparams=range=tv:colorspace=bt2020nc"
PQ += ":color_primaries=bt2020:color_trc=smpte2084"
UNEVEN = "select='not(eq(mod(n,10),3)+eq(mod(n,10),6)+eq(mod(n,10),7))'"
SUBTITLES = "1\n00:00:00,200 --> 00:00:00,600\nHello\n\n2\n00:00:00,700 --> 00:00:00,900\nWorld\n"

FRAMES, RATE = 30, 30
"""Number of frames of `make_clip`, and frames per second."""
PICTURE = ["-f", "lavfi", "-i", f"testsrc2=s=32x16:r={RATE}:d=1"]
ACCURATE = ["-vf", "scale=in_chroma_loc=left:flags=bicubic+accurate_rnd+full_chroma_int"]
"""FFmpeg's conversion to RGB with rounding, and with chroma of the full width, which H.264 samples at the left."""
SOUND = ["-f", "lavfi", "-i", "sine=f=440:r=48000:d=1"]
WORDS = "1\n00:00:00,100 --> 00:00:00,500\nHello\n\n2\n00:00:00,600 --> 00:00:00,900\nWorld\n"
CHAPTERS = ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=400\ntitle=one\n"
CHAPTERS += "[CHAPTER]\nTIMEBASE=1/1000\nSTART=400\nEND=1000\ntitle=two\n"


def ffmpeg(*arguments: object) -> None:
    """Run FFmpeg. An existing output file is overwritten."""
    subprocess.run([FFMPEG, "-y", "-v", "error", *map(str, arguments)], check=True)


def frames_of(path: Path) -> list[tuple[float, tuple[int, int], str]]:
    """Return the time in seconds, the size (width, height) and the pixel format of each frame."""
    with av.open(str(path)) as container:
        decoded = container.decode(container.streams.video[0])
        return [(float(f.time or 0), (f.width, f.height), f.format.name) for f in decoded]


def gaps(path: Path) -> Counter[int]:
    """Return how often each time between two frames occurs, in milliseconds."""
    times = np.array([seconds for seconds, _, _ in frames_of(path)])
    return Counter(np.rint(1000 * np.diff(times)).astype(int).tolist())


def packets(path: Path, kind: str) -> list[str]:
    """Return the SHA-256 hashes of the packets of all streams of a kind, such as `audio`. Empty packets are skipped."""
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        demuxed = container.demux(streams) if streams else ()
        return [hashlib.sha256(bytes(packet)).hexdigest() for packet in demuxed if packet.size]


def pixels_of(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """Return all frames as FFmpeg decodes them, (frames, height, width, 3) uint8 RGB. None is repeated or dropped."""
    return np.frombuffer(planes_of(path, "-pix_fmt", "rgb24", *ACCURATE), np.uint8).reshape(-1, height, width, 3)


def planes_of(path: Path, *options: str) -> bytes:
    """Return the bytes of all frames as FFmpeg decodes them, in the pixel format of the file or of the options."""
    command = [FFMPEG, "-v", "error", "-i", str(path), "-fps_mode", "passthrough", "-f", "rawvideo", *options, "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def make_clips(folder: Path) -> Path:
    """Fill a folder with clips of 32×16 pixels and about a second, and files that are not videos. Return it."""
    picture = ["-f", "lavfi", "-i", "testsrc2=s=32x16:r=30:d=1.2"]
    sound = ["-f", "lavfi", "-i", "sine=f=440:r=48000:d=1.2"]
    x264 = ["-c:v", "libx264", "-bf", 3, "-crf", 20]
    vfr = folder / "vfr.mp4"
    thinned = ["-vf", f"{UNEVEN},{BT709}", "-fps_mode", "vfr"]
    ffmpeg(*picture, *sound, *thinned, *x264, "-c:a", "aac", "-metadata", "title=A", vfr)
    ten = ["-c:v", "libx265", "-x265-params", "log-level=error", "-c:a", "libopus"]
    ffmpeg(*picture, *sound, "-vf", PQ, *ten, folder / "ten.mkv")
    ffmpeg("-display_rotation:v:0", 90, "-i", vfr, "-c", "copy", folder / "turned.mp4")
    ffmpeg("-i", vfr, "-c", "copy", "-output_ts_offset", 5, "-f", "mpegts", folder / "late.ts")
    (folder / "words.srt").write_text(SUBTITLES)
    both = ["-i", vfr, "-i", folder / "words.srt", "-map", 0, "-map", 1, "-c", "copy", "-c:s"]
    ffmpeg(*both, "mov_text", folder / "words.mp4")
    ffmpeg(*both, "srt", folder / "words.mkv")
    ffmpeg("-i", vfr, "-vn", "-c", "copy", folder / "sound.m4a")
    (folder / "empty.mp4").write_bytes(b"")
    ffmpeg("-i", vfr, "-c", "copy", "-movflags", "faststart", folder / "front.mp4")
    front = (folder / "front.mp4").read_bytes()
    (folder / "frameless.mp4").write_bytes(front[: front.index(b"mdat") + 4])
    (folder / "strange.mp4").write_bytes(front.replace(b"avc1", b"zzzz"))
    other = ["-f", "lavfi", "-i", "mandelbrot=s=32x16:r=30", "-t", 2]
    ffmpeg(*picture, *other, "-filter_complex", "[0:v][1:v]concat=n=2[v]", "-map", "[v]", *x264, folder / "cut.mp4")
    return folder


def make_clip(folder: Path) -> Path:
    """Make a second of video with B-frames and several key frames, sound, subtitles and chapters. Return its path."""
    (folder / "words.srt").write_text(WORDS)
    (folder / "chapters.txt").write_text(CHAPTERS)
    inputs = [*PICTURE, *SOUND, "-i", folder / "words.srt", "-i", folder / "chapters.txt", "-map_chapters", 3]
    codecs = ["-c:v", "libx264", "-bf", 3, "-g", 12, "-c:a", "aac", "-c:s", "srt"]
    ffmpeg(*inputs, "-map", 0, "-map", 1, "-map", 2, *codecs, folder / "clip.mkv")
    return folder / "clip.mkv"
