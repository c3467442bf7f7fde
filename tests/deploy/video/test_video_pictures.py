"""`caflow video`: orientation, shape of pixels, transparency, HDR metadata and captions of the pictures."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import PICTURE, ffmpeg, frames_of, pixels_of
from commands import messages
from PIL import ExifTags, Image
from video_runs import video

from caflow_deploy.images.image_files import read_image
from caflow_deploy.video.file_source import FileSource


def test_a_turned_clip_comes_out_upright(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    video(clips / "turned.mp4", tmp_path / "out.mp4", uncalibrated)
    assert {size for _, size, _ in frames_of(tmp_path / "out.mp4")} == {(64, 128)}
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert next(container.decode(container.streams.video[0])).rotation == 0


@pytest.mark.parametrize(
    ("output", "options", "is_kept"),
    [("out.mkv", [], True), ("out.mp4", ["--codec", "av1"], True), ("out.webm", [], False), ("out.gif", [], False)],
)
def test_wide_pixels_remain(uncalibrated: Path, tmp_path: Path, output: str, options: list[str], is_kept: bool) -> None:
    ffmpeg(*PICTURE, "-vf", "setsar=2", "-frames:v", 2, tmp_path / "wide.mp4")
    done = video(tmp_path / "wide.mp4", tmp_path / output, uncalibrated, *options)
    with av.open(str(tmp_path / output)) as container:
        assert (container.streams.video[0].sample_aspect_ratio == 2) == is_kept
    assert ("the shape of its pixels (2) is omitted" in done.stderr) != is_kept


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("mirrored", [[], ["-display_hflip"], ["-display_vflip"]], ids=str)
def test_frames_are_turned_as_by_ffmpeg(tmp_path: Path, degrees: int, mirrored: list[object]) -> None:
    """With chroma of the full size: FFmpeg turns planes, and reduced chroma would then lie elsewhere."""
    clip, shown = tmp_path / "clip.mp4", tmp_path / "shown.mp4"
    ffmpeg(*PICTURE, "-frames:v", 3, "-c:v", "libx264", "-pix_fmt", "yuv444p", clip)
    ffmpeg("-display_rotation", degrees, *mirrored, "-i", clip, "-c:v", "copy", shown)
    images = [frame.image for frame in FileSource(shown).frames()]
    height, width = images[0].shape[:2]
    assert np.array_equal(images, pixels_of(shown, height, width))


@pytest.mark.parametrize(("orientation", "quarters"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_motion_jpeg_is_rotated(uncalibrated: Path, tmp_path: Path, orientation: int, quarters: int) -> None:
    """Videos of cameras. FFmpeg attaches the EXIF orientation as side data of a kind that PyAV does not know."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    greys = np.random.default_rng(1).integers(256, size=(2, 4, 1), dtype=np.uint8)
    picture = greys.repeat(8, 0).repeat(8, 1).repeat(3, 2)
    with (tmp_path / "all.mjpeg").open("wb") as file:
        for _ in range(3):
            Image.fromarray(picture).save(file, "JPEG", exif=exif, quality=95)
    source = tmp_path / "a.avi"
    ffmpeg("-i", tmp_path / "all.mjpeg", "-c", "copy", source)
    images = [frame.image.astype(float) for frame in FileSource(source).frames()]
    assert len(images) == 3
    assert images[0] == pytest.approx(np.rot90(picture, quarters).astype(float), abs=4)
    video(source, tmp_path / "out.mp4", uncalibrated)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".mov", ["-c:v", "prores_ks", "-profile:v", 4444, "-pix_fmt", "yuva444p10le"]),
        (".mov", ["-c:v", "qtrle", "-pix_fmt", "argb"]),
        (".mkv", ["-c:v", "ffv1", "-pix_fmt", "bgra"]),
    ],
    ids=["prores", "qtrle", "ffv1"],
)
def test_transparency_of_videos_is_kept_in_images_and_white_in_videos(
    uncalibrated: Path, tmp_path: Path, suffix: str, options: list[object]
) -> None:
    """It is kept in animations and numbered images, with and without workers. Other results are put on white."""
    clear, shown = tmp_path / f"clear{suffix}", tmp_path / f"shown{suffix}"
    ffmpeg(*PICTURE, "-frames:v", 3, "-vf", "format=rgba,colorchannelmixer=aa=0.5", *options, clear)
    ffmpeg(*PICTURE, "-frames:v", 3, "-vf", "format=rgba", *options, shown)
    for name, given in (("one", []), ("two", ["--workers", 1, "--segment-frames", 2])):
        video(clear, tmp_path / name / "%d.png", uncalibrated, *given)
        images = [read_image(tmp_path / name / f"{k}.png") for k in (1, 2, 3)]
        assert all(image.alpha is not None and np.allclose(image.alpha, 128, atol=2) for image in images)
    one, two = ([(tmp_path / name / f"{k}.png").read_bytes() for k in (1, 2, 3)] for name in ("one", "two"))
    assert one == two
    half, whole = (next(FileSource(path).frames()).image.astype(float) for path in (clear, shown))
    assert half == pytest.approx(255 + 0.5 * (whole - 255), abs=4)


def test_alpha_of_raw_pixels_is_ignored(tmp_path: Path) -> None:
    """Screen recorders fill it with 0, so that nothing would be seen."""
    invisible = ["-vf", "format=bgra,colorchannelmixer=aa=0", "-c:v", "rawvideo"]
    ffmpeg(*PICTURE, "-frames:v", 3, *invisible, tmp_path / "a.avi")
    assert next(FileSource(tmp_path / "a.avi").frames()).image.mean() < 200


HDR10 = "log-level=error:hdr10=1:transfer=smpte2084:max-cll=1000,400"
HDR10 += ":master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,500)"
CAPTION = b"\0\0\1\6\4\x0e\xb5\0\x31GA94\3\x41\xff\xfc\x94\x20\xff\x80"
"""Supplemental information of H.264 with one pair of bytes of CEA-608."""
SLICE = b"\0\0\1\x65"


def test_lost_features_of_the_pictures_are_reported(uncalibrated: Path, tmp_path: Path) -> None:
    few = [*PICTURE, "-frames:v", 2]
    ffmpeg(*few, "-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", HDR10, tmp_path / "hdr.mp4")
    ffmpeg(*few, "-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", tmp_path / "clear.webm")
    ffmpeg(*few, "-c:v", "ffv1", "-pix_fmt", "yuva420p", tmp_path / "clear.mkv")  # also has the tag alpha_mode
    ffmpeg(*few, "-c:v", "libx264", "-bsf:v", "filter_units=remove_types=6", tmp_path / "plain.h264")
    ffmpeg(*few, "-vf", "setfield=tff", "-c:v", "libx264", "-x264-params", "tff=1", tmp_path / "fields.mp4")
    ffmpeg(*few, "-c:v", "ffv1", "-pix_fmt", "yuv444p", tmp_path / "whole.mkv")
    plain = (tmp_path / "plain.h264").read_bytes()
    (tmp_path / "captions.h264").write_bytes(plain.replace(SLICE, CAPTION + SLICE, 1))
    for name, lines in (
        ("hdr.mp4", ["(mastering display) is omitted", "(content light level) is omitted"]),
        ("clear.webm", ["transparency is omitted: FFmpeg does not decode it"]),
        ("clear.mkv", ["transparency is omitted, with white behind it"]),
        ("captions.h264", ["the closed captions in its pictures are omitted"]),
        ("plain.h264", []),
        ("whole.mkv", ["chroma is reduced to half the width and height: --pixel-format yuv444p keeps all of it"]),
        ("fields.mp4", ["it is interlaced, so moving edges are combs in the result"]),
    ):
        for output in ("out.mkv", "%d.png"):
            codec = [] if output == "%d.png" else ["--codec", "h264"]
            done = video(tmp_path / name, tmp_path / output, uncalibrated, *codec, "--force")
            said = messages(done.stderr)
            lines = [] if output == "%d.png" and name in ("clear.mkv", "whole.mkv") else lines
            assert len(said) == len(lines)
            assert all(line in found for line, found in zip(lines, said, strict=True))


@pytest.mark.parametrize("options", [[], ["--workers", 1]], ids=str)
def test_hevc_keeps_hdr10(uncalibrated: Path, tmp_path: Path, options: list[object]) -> None:
    source, output = tmp_path / "hdr.mp4", tmp_path / "out.mp4"
    few = [*PICTURE, "-frames:v", 4, "-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", HDR10]
    ffmpeg(*few, source)
    done = video(source, output, uncalibrated, *options)
    assert messages(done.stderr) == []
    described = []
    for path in (source, output):
        with av.open(str(path)) as container:
            side_data: Any = next(container.decode(video=0)).side_data
        described.append([bytes(side_data[name]) for name in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")])
    assert described[0] == described[1]
