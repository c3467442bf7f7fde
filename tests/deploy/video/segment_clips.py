"""Videos for the tests of segments."""

from pathlib import Path

import av
import pytest
from clips import UNEVEN, ffmpeg

SEGMENT_FRAMES = 10
X264 = ["-c:v", "libx264", "-crf", 20]
CLIPS = ["scenes.mp4", "vfr.mp4", "open.mkv", "far.mp4", "late.ts", "mpeg2.ts", "b_frames.avi", "raw.h264"]
CLIPS += ["refresh.mkv", "false_keys.mp4"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 32×16 clips. In `scenes.mp4`, one scene starts within a segment, and one where a segment starts."""
    folder = tmp_path_factory.mktemp("clips")
    scenes = ["testsrc2=s=32x16:r=30,scroll=h=0.07", "mandelbrot=s=32x16:r=30"]
    scenes += ["testsrc2=s=32x16:r=30,negate,scroll=v=0.13"]
    inputs = [part for scene in scenes for part in ("-f", "lavfi", "-i", scene)]
    trims = [f"[{k}:v]trim=end_frame={n},format=yuv420p[{k}]" for k, n in enumerate((14, 6, 16))]
    graph = ";".join([*trims, "[0][1][2]concat=n=3[v]"])
    sound = ["-f", "lavfi", "-i", "sine=f=440:r=48000:d=1.2"]
    streams = ["-filter_complex", graph, "-map", "[v]", "-map", "3:a", "-c:a", "aac", "-ac", 2]
    ffmpeg(*inputs, *sound, *streams, *X264, "-bf", 3, "-g", 7, folder / "scenes.mp4")
    moving = ["-f", "lavfi", "-i", "testsrc2=s=32x16:r=30:d=2"]
    thinned = ["-vf", UNEVEN, "-fps_mode", "vfr"]
    ffmpeg(*moving, *thinned, *X264, "-bf", 3, "-g", 8, folder / "vfr.mp4")
    ffmpeg(*moving, *thinned, *X264, "-bf", 3, "-g", 8, "-x264-params", "open-gop=1:scenecut=0", folder / "open.mkv")
    ffmpeg(*moving, *X264, "-bf", 2, "-g", 500, folder / "far.mp4")
    ffmpeg("-i", folder / "vfr.mp4", "-c", "copy", "-output_ts_offset", 5, "-f", "mpegts", folder / "late.ts")
    ffmpeg(*moving, "-c:v", "mpeg2video", "-bf", 2, "-g", 8, folder / "mpeg2.ts")
    ffmpeg(*moving, "-c:v", "mpeg4", "-bf", 2, "-g", 8, folder / "b_frames.avi")
    ffmpeg(*moving, *X264, "-bf", 3, "-g", 8, folder / "raw.h264")
    ffmpeg(*moving, *X264, "-x264-params", "intra-refresh=1:keyint=8", folder / "refresh.mkv")
    ffmpeg(*moving, "-c:v", "mpeg4", "-g", 24, folder / "keys.mp4")
    with av.open(str(folder / "keys.mp4")) as keys, av.open(str(folder / "false_keys.mp4"), "w") as false_keys:
        copy = false_keys.add_stream_from_template(keys.streams.video[0])
        for packet in keys.demux(keys.streams.video[0]):
            packet.is_keyframe, packet.stream = True, copy
            false_keys.mux(packet)
    return folder
