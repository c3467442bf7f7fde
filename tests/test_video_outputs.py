"""`caflow video` with numbered images, parts of a video, other containers and pixel formats, and previews."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from clips import ffmpeg, frames_of, packets, pixels_of
from commands import Done, caflow, messages
from PIL import Image

from caflow_runtime.errors import InputError
from caflow_runtime.pictures.image_files import read_image
from caflow_runtime.video import file_source, job
from caflow_runtime.video.cut import Cut
from caflow_runtime.video.file_source import FileSource
from caflow_runtime.video.numbered import NumberedSource
from caflow_runtime.video.source import CLOCK
from caflow_runtime.video.sources import CutSource, frame_at

FRAMES, RATE = 30, 30
SECOND = int(1 / CLOCK)
PICTURE = ["-f", "lavfi", "-i", f"testsrc2=s=32x16:r={RATE}:d=1"]
SOUND = ["-f", "lavfi", "-i", "sine=f=440:r=48000:d=1"]
WORDS = "1\n00:00:00,100 --> 00:00:00,500\nHello\n\n2\n00:00:00,600 --> 00:00:00,900\nWorld\n"
CHAPTERS = ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=400\ntitle=one\n"
CHAPTERS += "[CHAPTER]\nTIMEBASE=1/1000\nSTART=400\nEND=1000\ntitle=two\n"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of video with B-frames and several key frames, sound, subtitles and chapters."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "words.srt").write_text(WORDS)
    (folder / "chapters.txt").write_text(CHAPTERS)
    inputs = [*PICTURE, *SOUND, "-i", folder / "words.srt", "-i", folder / "chapters.txt", "-map_chapters", 3]
    codecs = ["-c:v", "libx264", "-bf", 3, "-g", 12, "-c:a", "aac", "-c:s", "srt"]
    ffmpeg(*inputs, "-map", 0, "-map", 1, "-map", 2, *codecs, folder / "clip.mkv")
    return folder / "clip.mkv"


def video(source: object, output: object, bundle: Path, *options: object) -> Done:
    return caflow("video", source, "-o", output, "--bundle", bundle, "-n", 1, "--threads", 1, *options)


def seconds(packet: Any, what: str) -> float:
    """Return the `pts` or the `duration` of a packet, in seconds."""
    return float(getattr(packet, what) * packet.time_base)


LOSSLESS = ["--codec", "ffv1"]


def test_numbered_images_in_and_out(clip: Path, uncalibrated: Path, tmp_path: Path) -> None:
    """Read and written images equal the frames of a video file. Their rate is that of --rate."""
    (tmp_path / "frames").mkdir()
    ffmpeg("-i", clip, "-start_number", 8, tmp_path / "frames" / "%03d.png")
    rate = Fraction(24000, 1001)
    assert video(clip, tmp_path / "file.mkv", uncalibrated, *LOSSLESS).returncode == 0
    assert (
        video(tmp_path / "frames/%03d.png", tmp_path / "a.mkv", uncalibrated, *LOSSLESS, "--rate", rate).returncode == 0
    )
    wanted = pixels_of(tmp_path / "file.mkv", 64, 128)
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert container.streams.video[0].average_rate == rate
    assert np.array_equal(pixels_of(tmp_path / "a.mkv", 64, 128), wanted)
    done = video(clip, tmp_path / "out/%d.png", uncalibrated)
    assert done.returncode == 0, done.stderr
    assert "audio is omitted" in done.stderr
    written = [read_image(tmp_path / "out" / f"{k}.png").rgb for k in range(1, FRAMES + 1)]
    assert np.array_equal(written, wanted)
    assert len(list((tmp_path / "out").iterdir())) == FRAMES
    again = video(tmp_path / "frames/%03d.png", tmp_path / "out/%d.png", uncalibrated, "--end", 0.4)
    assert "already exists; use --force" in again.stderr
    assert (
        video(tmp_path / "frames/%03d.png", tmp_path / "out/%d.png", uncalibrated, "--end", 0.4, "--force").returncode
        == 0
    )
    assert len(list((tmp_path / "out").iterdir())) == 10  # images of the longer result are removed


@pytest.mark.parametrize(("channels", "suffix"), [(3, ".tif"), (4, ".png")])
def test_numbered_images_of_16_bits(uncalibrated: Path, tmp_path: Path, channels: int, suffix: str) -> None:
    """The 16 bits come from the continuous result, as for single images. Formats with 8 bits get 8 bits."""
    deep = np.random.default_rng(0).integers(0, 65536, (8, 12, channels), np.uint16)
    for number in (1, 2):
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), deep)
    done = video(tmp_path / "%d.png", tmp_path / f"large/%d{suffix}", uncalibrated)
    assert done.returncode == 0, done.stderr
    image = caflow("image", tmp_path / "1.png", "-o", tmp_path / f"one{suffix}", "-n", 1, "--bundle", uncalibrated)
    assert image.returncode == 0, image.stderr
    wanted = cv2.imread(str(tmp_path / f"one{suffix}"), cv2.IMREAD_UNCHANGED)
    assert wanted is not None
    assert wanted.dtype == np.uint16
    for number in (1, 2):
        found = cv2.imread(str(tmp_path / f"large/{number}{suffix}"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(found, wanted)
    if channels == 3:
        assert video(tmp_path / "%d.png", tmp_path / "small/%d.jpg", uncalibrated).returncode == 0
        assert read_image(tmp_path / "small/1.jpg").bits == 8


def test_a_missing_number_ends_the_video(clip: Path, uncalibrated: Path, tmp_path: Path) -> None:
    ffmpeg("-i", clip, "-frames:v", 6, tmp_path / "%d.png")
    (tmp_path / "4.png").unlink()
    (tmp_path / "04.png").touch()  # another name, not number 4
    done = video(tmp_path / "%d.png", tmp_path / "out.mkv", uncalibrated)
    assert done.returncode == 1
    assert "4.png is missing, but later images exist" in done.stderr
    assert len(frames_of(tmp_path / "out.mkv")) == 3
    with pytest.raises(InputError, match=r"there are no such images; the first would be .*0001\.jpg"):
        NumberedSource(tmp_path / "%04d.jpg")


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("out.mov", "h264"),
        ("out.mov", "hevc"),
        ("out.webm", "vp9"),
        ("out.webm", "av1"),
        ("o.mkv", "vp9"),
    ],
)
def test_containers_hold_their_codecs(clip: Path, uncalibrated: Path, tmp_path: Path, name: str, codec: str) -> None:
    """The sound is copied where the container supports it, and converted otherwise."""
    done = video(clip, tmp_path / name, uncalibrated, "--codec", codec, "--end", 0.3)
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / name)) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == codec
        (sound,) = container.streams.audio
        assert sound.codec_context.name == ("opus" if name.endswith(".webm") else "aac")
        assert len(container.streams.subtitles) == 1
    assert len(frames_of(tmp_path / name)) == 9
    assert ("audio 1 (aac) is converted" in done.stderr) == name.endswith(".webm")


@pytest.mark.parametrize(("start", "end"), [("0.2", None), ("0:00.3", "00:00:00.7"), (None, 0.5), (0.701, 0.9)])
def test_frames_between_times_are_exact(
    clip: Path, uncalibrated: Path, tmp_path: Path, start: object, end: object
) -> None:
    """The frames equal those of the whole video. Sound, subtitles and chapters are cut at the same times."""
    whole, part = tmp_path / "whole.mkv", tmp_path / "part.mkv"
    options = [text for name, value in (("--start", start), ("--end", end)) if value for text in (name, value)]
    assert video(clip, whole, uncalibrated, *LOSSLESS).returncode == 0
    done = video(clip, part, uncalibrated, *LOSSLESS, *options)
    assert done.returncode == 0, done.stderr
    first = 0.0 if start is None else float(str(start).split(":")[-1])
    last = 1.0 if end is None else float(str(end).split(":")[-1])
    kept = [k for k in range(FRAMES) if first <= k / RATE < last]
    assert np.array_equal(pixels_of(part, 64, 128), pixels_of(whole, 64, 128)[kept])
    assert np.allclose([time for time, _, _ in frames_of(part)], [k / RATE - first for k in kept], atol=0.002)
    sound = packets(clip, "audio")
    assert set(packets(part, "audio")) < set(sound)
    assert len(packets(part, "audio")) == pytest.approx(len(sound) * (last - first), abs=2)
    with av.open(str(part)) as container:
        titles = [chapter["metadata"]["title"] for chapter in container.chapters()]
        assert titles == ["one"] * (first < 0.4) + ["two"] * (last > 0.4)
        found = [(packet.stream.type, packet) for packet in container.demux() if packet.size]
    sounds, words = ([packet for kind, packet in found if kind == wanted] for wanted in ("audio", "subtitle"))
    assert 0 <= seconds(sounds[0], "pts") < 0.03
    shown = [(seconds(word, "pts"), seconds(word, "duration"), bytes(word)) for word in words]
    wanted = [
        (max(0, a - first), min(b, last) - max(a, first), text)
        for a, b, text in ((0.1, 0.5, b"Hello"), (0.6, 0.9, b"World"))
        if b > first and a < last
    ]
    assert [text for *_, text in shown] == [text for *_, text in wanted]
    assert np.allclose([x[:2] for x in shown], [x[:2] for x in wanted], atol=0.002)


def test_the_beginning_of_a_far_part_is_sought(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames after seeking equal those of decoding from the beginning of the file."""
    monkeypatch.setattr(file_source, "SOUGHT_EARLIER_S", Fraction(1, 5))
    ffmpeg("-i", clip, "-c", "copy", "-sn", tmp_path / "clip.mp4")
    for path in (clip, tmp_path / "clip.mp4"):
        every = list(FileSource(path).frames())
        source = FileSource(path)
        source.seek_before(source.info.origin + 7 * SECOND // 10)
        assert next(source.frames()).ticks > every[0].ticks
        found = list(CutSource(FileSource(path), Cut(7 * SECOND // 10)).frames())
        assert [frame.ticks for frame in found] == [frame.ticks for frame in every[-len(found) :]]
        assert np.array_equal([frame.image for frame in found], [frame.image for frame in every[-len(found) :]])
        assert len(found) == 9


def test_workers_draw_a_part(clip: Path, uncalibrated: Path, tmp_path: Path) -> None:
    times = ["--start", 0.2, "--end", 0.8, "--segment-frames", 7]
    assert video(clip, tmp_path / "one.mkv", uncalibrated, *LOSSLESS, *times).returncode == 0
    done = video(clip, tmp_path / "two.mkv", uncalibrated, *LOSSLESS, *times, "--workers", 1)
    assert done.returncode == 0, done.stderr
    for kind in ("video", "audio"):
        assert packets(tmp_path / "two.mkv", kind) == packets(tmp_path / "one.mkv", kind) != []


@pytest.mark.parametrize(
    ("pixel_format", "codec"),
    [
        ("yuv444p", "h264"),
        ("yuv422p10le", "hevc"),
        ("yuv420p10le", "h264"),
        ("yuv444p", "vp9"),
        ("gbrp12le", "ffv1"),
    ],
)
def test_pixel_formats_are_those_asked_for(
    clip: Path, uncalibrated: Path, tmp_path: Path, pixel_format: str, codec: str
) -> None:
    """The colours are close to those of lossless RGB in FFV1."""
    options = ["--codec", codec, "--pixel-format", pixel_format, "--end", 0.2]
    done = video(clip, tmp_path / "out.mkv", uncalibrated, *options, "--crf", 4)
    assert done.returncode == 0, done.stderr
    assert {name for *_, name in frames_of(tmp_path / "out.mkv")} == {pixel_format}
    assert video(clip, tmp_path / "rgb.mkv", uncalibrated, *LOSSLESS, "--end", 0.2).returncode == 0
    found, wanted = (pixels_of(tmp_path / name, 64, 128).astype(int) for name in ("out.mkv", "rgb.mkv"))
    assert np.abs(found - wanted).mean() < (5 if pixel_format.startswith("yuv42") else 2)


def test_presets_change_the_encoder(clip: Path, uncalibrated: Path, tmp_path: Path) -> None:
    for preset in ("ultrafast", "slow"):
        assert video(clip, tmp_path / f"{preset}.mp4", uncalibrated, "--preset", preset).returncode == 0
    assert packets(tmp_path / "slow.mp4", "video") != packets(tmp_path / "ultrafast.mp4", "video")


def test_all_of_it_belongs_to_the_job(
    clip: Path, uncalibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command resumes the job. With other settings it is refused, and the error names the difference."""

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    output, own = tmp_path / "out.mp4", ["--start", 0.2, "--preset", "fast", "--pixel-format", "yuv444p"]
    with monkeypatch.context() as changed:
        changed.setattr(job, "write_result", fail)
        done = video(clip, output, uncalibrated, *own)
    assert done.returncode == 1
    assert "the disk is full; the finished part is in" in done.stderr
    for options, differing in (
        (["--start", 0.3], "start 18000 (now 27000)"),
        (["--end", 0.9], "end None (now 81000)"),
        (["--preset", "slow"], "preset fast (now slow)"),
        (["--pixel-format", "yuv420p"], "given_format yuv444p (now yuv420p)"),
    ):
        refused = video(clip, output, uncalibrated, *own, *options)
        assert refused.returncode == 2
        assert (
            f"{output}.parts contains a job with other settings: {differing}; use the same settings" in refused.stderr
        )
    assert video(clip, output, uncalibrated, *own).returncode == 0
    assert len(frames_of(output)) == 24
    assert list(tmp_path.iterdir()) == [output]


REFUSED = [
    (["--preset", "quick"], "out.mp4", "libx264 cannot encode 128×64 with --preset quick"),
    (["--preset", "slow", "--codec", "ffv1"], "out.mkv", "ffv1 does not support --preset"),
    (["--pixel-format", "nonsense"], "out.mp4", "--pixel-format nonsense is unknown to FFmpeg"),
    (["--pixel-format", "bgr0"], "out.mp4", "for libx264; got bgr0"),
    (["--pixel-format", "yuv420p"], "out.gif", "gif does not support --preset or --pixel-format"),
    (["--codec", "h264"], "out.webm", ".webm files cannot contain h264: set --codec to one of vp9, av1"),
    (["--codec", "h264"], "out.gif", ".gif files cannot contain h264: omit --codec"),
    (["--start", 5], "out.mp4", "there is no frame from 5 s"),
    (["--start", 0.5, "--end", 0.4], "out.mp4", "--end must be later than --start"),
    (["--start", "1:2:3:4"], "out.mp4", "must be seconds or HH:MM:SS, such as 83.5"),
    (["--rate", 25], "out.mp4", "has its own frame rate: --rate is only for numbered images"),
    (["--sheet"], "out.png", "also give --at TIME"),
    (["--at", 5], "out.png", "there is no frame at 5 s"),
    (["--at", 0.5], "out.mp4", "the name of an image must end in"),
]


@pytest.mark.parametrize(("options", "output", "message"), REFUSED)
def test_refusals_are_one_line(
    clip: Path, uncalibrated: Path, tmp_path: Path, options: list[object], output: str, message: str
) -> None:
    done = video(clip, tmp_path / output, uncalibrated, *options)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("at", "number"), [("0", 0), (0.5, 15), ("00:00.55", 16), (0.98, 29)])
def test_the_frame_at_a_time(clip: Path, at: object, number: int) -> None:
    every = list(FileSource(clip).frames())
    time = round(Fraction(str(at).split(":")[-1]) / CLOCK)
    assert np.array_equal(frame_at(FileSource(clip), time).image, every[number].image)


@pytest.mark.parametrize(
    ("source", "output", "options"),
    [
        ("%02d.png", "%d.png", ["--force"]),  # both patterns have 10.png
        ("%02d.png", "../frames/%d.png", ["--force"]),
        ("%02d.png", "linked/%d.png", ["--force"]),
        ("%02d.png", "10.png", ["--force"]),
        ("10.png", "%d.png", ["--force"]),
        ("10.png", "10.png", ["--at", 0, "--force"]),
    ],
)
def test_the_input_is_never_overwritten_or_removed(
    uncalibrated: Path, tmp_path: Path, source: str, output: str, options: list[object]
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "linked").symlink_to(folder)
    ffmpeg(*PICTURE, "-frames:v", 12, folder / "%02d.png")
    before = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    done = video(folder / source, folder / output, uncalibrated, *options)
    assert done.returncode == 2
    assert "is the input file, or one of its images; choose another -o" in done.stderr
    assert {path.name: path.read_bytes() for path in folder.glob("*.png")} == before


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "gif"])
def test_relative_names_with_a_colon(
    clip: Path, uncalibrated: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg would take `2024-01-01T12` for a protocol."""
    monkeypatch.chdir(tmp_path)
    name = "2024-01-01T12:30:00.mkv"
    (tmp_path / name).write_bytes(clip.read_bytes())
    for options in ([], ["--workers", 1, "--segment-frames", 6, "--force"]):
        done = video(name, f"2024-01-01T12:31:00.{suffix}", uncalibrated, "--end", 0.5, *options)
        assert done.returncode == 0, done.stderr
        assert len(frames_of(tmp_path / f"2024-01-01T12:31:00.{suffix}")) == 15


TURNS = ["-display_rotation", 0], ["-display_rotation", 90], ["-display_rotation", 180], ["-display_rotation", -90]
ORIENTATION = 274
"""Number of the EXIF tag that says how a picture is turned."""
MIRRORED: tuple[list[object], ...] = [], ["-display_hflip"], ["-display_vflip"]


@pytest.mark.parametrize("turn", TURNS, ids=str)
@pytest.mark.parametrize("mirrored", MIRRORED, ids=str)
def test_frames_are_turned_and_mirrored_as_by_ffmpeg(
    clip: Path, tmp_path: Path, turn: list[object], mirrored: list[object]
) -> None:
    shown = tmp_path / "shown.mp4"
    ffmpeg(*turn, *mirrored, "-i", clip, "-c:v", "copy", "-an", "-sn", "-frames:v", 3, shown)
    images = [frame.image for frame in FileSource(shown).frames()]
    height, width = images[0].shape[:2]
    assert np.array_equal(images, pixels_of(shown, height, width))


@pytest.mark.parametrize(("orientation", "quarters"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_motion_jpeg_with_exif(uncalibrated: Path, tmp_path: Path, orientation: int, quarters: int) -> None:
    """Videos of cameras. FFmpeg attaches the EXIF metadata as side data of a kind that PyAV does not know."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
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
    assert video(source, tmp_path / "out.mp4", uncalibrated).returncode == 0


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".mov", ["-c:v", "prores_ks", "-profile:v", 4444, "-pix_fmt", "yuva444p10le"]),
        (".mov", ["-c:v", "qtrle", "-pix_fmt", "argb"]),
        (".mkv", ["-c:v", "ffv1", "-pix_fmt", "bgra"]),
    ],
    ids=["prores", "qtrle", "ffv1"],
)
def test_transparency_of_video_files(uncalibrated: Path, tmp_path: Path, suffix: str, options: list[object]) -> None:
    """It is kept in animations and numbered images, with and without workers. Other results are put on white."""
    clear, shown = tmp_path / f"clear{suffix}", tmp_path / f"shown{suffix}"
    ffmpeg(*PICTURE, "-frames:v", 3, "-vf", "format=rgba,colorchannelmixer=aa=0.5", *options, clear)
    ffmpeg(*PICTURE, "-frames:v", 3, "-vf", "format=rgba", *options, shown)
    for name, given in (("one", []), ("two", ["--workers", 1, "--segment-frames", 2])):
        assert video(clear, tmp_path / name / "%d.png", uncalibrated, *given).returncode == 0
        images = [read_image(tmp_path / name / f"{k}.png") for k in (1, 2, 3)]
        assert all(image.alpha is not None and np.allclose(image.alpha, 128, atol=2) for image in images)
    one, two = ([(tmp_path / name / f"{k}.png").read_bytes() for k in (1, 2, 3)] for name in ("one", "two"))
    assert one == two
    half, whole = (next(FileSource(path).frames()).image.astype(float) for path in (clear, shown))
    assert half == pytest.approx(255 + 0.5 * (whole - 255), abs=4)


def test_alpha_of_raw_pixels_is_ignored(tmp_path: Path) -> None:
    """Screen recorders fill it with 0, so that nothing would be seen."""
    ffmpeg(
        *PICTURE, "-frames:v", 3, "-vf", "format=bgra,colorchannelmixer=aa=0", "-c:v", "rawvideo", tmp_path / "a.avi"
    )
    assert next(FileSource(tmp_path / "a.avi").frames()).image.mean() < 200


HDR10 = "log-level=error:hdr10=1:transfer=smpte2084:max-cll=1000,400"
HDR10 += ":master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,500)"
CAPTION = b"\0\0\1\6\4\x0e\xb5\0\x31GA94\3\x41\xff\xfc\x94\x20\xff\x80"
"""Supplemental information of H.264 with one pair of bytes of CEA-608."""
SLICE = b"\0\0\1\x65"


def test_what_is_lost_with_the_pictures_is_said(uncalibrated: Path, tmp_path: Path) -> None:
    few = [*PICTURE, "-frames:v", 2]
    ffmpeg(*few, "-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", HDR10, tmp_path / "hdr.mp4")
    ffmpeg(*few, "-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", tmp_path / "clear.webm")
    ffmpeg(*few, "-c:v", "ffv1", "-pix_fmt", "yuva420p", tmp_path / "clear.mkv")  # also has the tag alpha_mode
    ffmpeg(*few, "-c:v", "libx264", "-bsf:v", "filter_units=remove_types=6", tmp_path / "plain.h264")
    plain = (tmp_path / "plain.h264").read_bytes()
    (tmp_path / "captions.h264").write_bytes(plain.replace(SLICE, CAPTION + SLICE, 1))
    for name, lines in (
        ("hdr.mp4", ["(mastering display) is omitted", "(content light level) is omitted"]),
        ("clear.webm", ["transparency is omitted: FFmpeg does not decode it"]),
        ("clear.mkv", []),
        ("captions.h264", ["the closed captions in its pictures are omitted"]),
        ("plain.h264", []),
    ):
        for output in ("out.mkv", "%d.png"):
            codec = [] if output == "%d.png" else ["--codec", "h264"]
            done = video(tmp_path / name, tmp_path / output, uncalibrated, *codec, "--force")
            assert done.returncode == 0, done.stderr
            said = messages(done.stderr)
            assert len(said) == len(lines)
            assert all(line in found for line, found in zip(lines, said, strict=True))


@pytest.mark.parametrize("options", [[], ["--workers", 1]], ids=str)
def test_hevc_keeps_hdr10(uncalibrated: Path, tmp_path: Path, options: list[object]) -> None:
    source, output = tmp_path / "hdr.mp4", tmp_path / "out.mp4"
    few = [*PICTURE, "-frames:v", 4, "-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", HDR10]
    ffmpeg(*few, source)
    done = video(source, output, uncalibrated, *options)
    assert (done.returncode, messages(done.stderr)) == (0, [])
    described = []
    for path in (source, output):
        with av.open(str(path)) as container:
            side_data: Any = next(container.decode(video=0)).side_data
        described.append([bytes(side_data[name]) for name in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")])
    assert described[0] == described[1]


def test_a_preview_is_what_image_makes_of_the_frame(clip: Path, uncalibrated: Path, tmp_path: Path) -> None:
    frame = list(FileSource(clip).frames())[16].image
    cv2.imwrite(str(tmp_path / "frame.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    common = ["--bundle", uncalibrated, "-n", 3, "--threads", 1]
    assert caflow("image", tmp_path / "frame.png", "-o", tmp_path / "image.png", "--sheet", *common).returncode == 0
    done = caflow("video", clip, "--at", 0.55, "--sheet", "-o", tmp_path / "sheet.png", *common)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{clip} at 0.533 s → {tmp_path / 'sheet.png'}  ")
    assert caflow("video", clip, "--at", 0.55, "-o", tmp_path / "one.png", *common).returncode == 0
    for preview, wanted in (("sheet.png", "image-sheet.png"), ("one.png", "image.png")):
        assert np.array_equal(read_image(tmp_path / preview).rgb, read_image(tmp_path / wanted).rgb)
    assert "already exists" in caflow("video", clip, "--at", 0.55, "-o", tmp_path / "one.png", *common).stderr
