"""`caflow video`: what a result keeps of its source, and what the log says."""

from pathlib import Path

import av
import numpy as np
import pytest
from clips import PICTURE, ffmpeg, frames_of, gaps, packets, pixels_of
from commands import json_lines, messages
from gpus import require
from video_runs import video

from caflow_deploy.video.encoding import Codec, Encoding, has_hardware_encoder
from caflow_deploy.video.rotation import pixels_of as pixels_of_frame
from caflow_deploy.video.sink import as_encoded

TAGS = ("color_range", "colorspace", "color_primaries", "color_trc")


def tags(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        return [int(getattr(context, tag)) for tag in TAGS]


def test_times_colours_sound_and_title_are_kept(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    source, output = clips / "vfr.mp4", tmp_path / "out.mp4"
    video(source, output, uncalibrated)
    assert gaps(output) == gaps(source)
    assert len(gaps(source)) == 3
    assert {size for _, size, _ in frames_of(output)} == {(128, 64)}
    assert tags(output) == tags(source) == [1, 1, 1, 1]
    assert packets(output, "audio") == packets(source, "audio") != []
    with av.open(str(output)) as container:
        assert container.metadata["title"] == "A"
    assert list(tmp_path.iterdir()) == [output]


def test_ten_bits_stay_ten(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    source, output = clips / "ten.mkv", tmp_path / "out.mkv"
    video(source, output, uncalibrated)
    assert {name for _, _, name in frames_of(output)} == {"yuv420p10le"}
    assert tags(output) == tags(source) == [1, 9, 9, 16]
    assert packets(output, "audio") == packets(source, "audio") != []
    with av.open(str(output)) as container:
        (first, *_) = container.decode(container.streams.video[0])
        deep = first.to_ndarray(format="rgb48le")
    assert len(np.unique(deep // 64)) > 256  # computed from the continuous result, not from 8 bits


def test_subtitles_are_kept_or_named(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    for source, output in (("words.mp4", "out.mp4"), ("words.mkv", "out.mkv")):
        done = video(clips / source, tmp_path / output, uncalibrated)
        assert messages(done.stderr) == []
        assert packets(tmp_path / output, "subtitle") == packets(clips / source, "subtitle") != []
    done = video(clips / "words.mkv", tmp_path / "words.mp4", uncalibrated)
    assert "a name that ends in .mkv keeps it unchanged" in done.stderr


@pytest.mark.parametrize("output", ["out.mp4", "out.webm"])
def test_rgb_gets_tags_of_the_format_that_is_written(uncalibrated: Path, tmp_path: Path, output: str) -> None:
    """The tag of RGB on YUV pictures would show false colours, and VP9 refuses it."""
    ffmpeg(*PICTURE, "-frames:v", 2, "-c:v", "ffv1", "-pix_fmt", "gbrp", tmp_path / "rgb.mkv")
    video(tmp_path / "rgb.mkv", tmp_path / output, uncalibrated)
    assert tags(tmp_path / output)[:2] == [1, 6]


@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9])
def test_colours_are_encoded_with_the_matrix_of_their_tag(matrix: int) -> None:
    pixels = np.full((16, 16, 3), [200, 60, 30], np.float32)
    frame = as_encoded(pixels, "yuv444p", {"colorspace": matrix, "color_range": 1})
    frame.colorspace, frame.color_range = matrix, 1
    assert np.abs(frame.to_ndarray(format="rgb24") - pixels).max() <= 3


@pytest.mark.parametrize("tag", [1, 2], ids=["limited", "full"])
@pytest.mark.parametrize("planes", [(120, 128, 128), (200, 120, 135), (60, 140, 120), (180, 100, 160)], ids=str)
def test_colours_come_back(planes: tuple[int, int, int], tag: int) -> None:
    """Conversions that truncate would make every video darker by a grey level, and grey ones coloured."""
    given = av.VideoFrame(64, 48, "yuv420p")
    given.colorspace, given.color_range = 1, tag
    for plane, value in zip(given.planes, planes, strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    again = as_encoded(pixels_of_frame(given, None) + np.float32(0.5), "yuv420p", {"colorspace": 1, "color_range": tag})
    off = [int(np.frombuffer(plane, np.uint8)[0]) - value for plane, value in zip(again.planes, planes, strict=True)]
    is_exact = tag == 1 or planes == (120, 128, 128)  # 8 bits of RGB cannot tell all colours of full range apart
    assert np.abs(off).max() <= (not is_exact)


def test_sound_that_mp4_does_not_support_is_converted(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    ffmpeg("-i", clips / "vfr.mp4", "-c:v", "copy", "-c:a", "wmav2", tmp_path / "wma.mkv")
    done = video(tmp_path / "wma.mkv", tmp_path / "out.mp4", uncalibrated)
    assert "audio 1 (wmav2) is converted" in done.stderr
    seconds = []
    for path in (tmp_path / "wma.mkv", tmp_path / "out.mp4"):
        with av.open(str(path)) as container:
            sound = container.streams.audio[0]
            heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(sound)])
            seconds.append(len(heard) / sound.codec_context.sample_rate)
            spectrum = np.abs(np.fft.rfft(heard))
            assert round(int(spectrum.argmax()) / seconds[-1] / 10) == 44  # the tone of 440 Hz
    assert sound.codec_context.name == "aac"
    assert abs(seconds[0] - seconds[1]) < 0.1


def test_chapters_languages_and_fonts_are_copied(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    (tmp_path / "chapters.txt").write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=one\n")
    (tmp_path / "font.ttf").write_bytes(b"not a font")
    rich = tmp_path / "rich.mkv"
    inputs = ["-i", clips / "words.mkv", "-i", tmp_path / "chapters.txt", "-map", 0, "-map_chapters", 1]
    languages = ["-metadata:s:a:0", "language=deu", "-metadata:s:s:0", "language=eng", "-disposition:s:0", "forced"]
    font = ["-attach", tmp_path / "font.ttf", "-metadata:s:3", "mimetype=application/x-truetype-font"]
    ffmpeg(*inputs, "-c", "copy", *languages, *font, rich)
    done = video(rich, tmp_path / "out.mkv", uncalibrated)
    assert messages(done.stderr) == []
    described = []
    for path in (rich, tmp_path / "out.mkv"):
        with av.open(str(path)) as container:
            streams = [(s.type, s.metadata.get("language"), s.disposition) for s in container.streams]
            described.append((streams, [chapter["metadata"] for chapter in container.chapters()]))
    assert described[0] == described[1]
    assert [kind for kind, *_ in described[1][0]] == ["video", "audio", "subtitle", "attachment"]
    done = video(rich, tmp_path / "out.mp4", uncalibrated)
    assert "attachment 3" in done.stderr
    assert "is omitted" in done.stderr


def test_the_log_has_a_line_per_frame_and_marks_scenes(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    done = video(clips / "cut.mp4", tmp_path / "out.mp4", uncalibrated, "--json", "--batch", 3)
    log = json_lines(done.stdout)
    assert [entry["frame"] for entry in log] == list(range(len(frames_of(clips / "cut.mp4"))))
    assert [entry["frame"] for entry in log if entry["starts_scene"]] == [0, 36]
    assert all(np.isfinite(entry["bits_per_dim"]) for entry in log)


@pytest.mark.gpu
def test_cuda_draws_the_frames_that_the_cpu_draws(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    require("cuda")
    drawn = []
    for backend in ("cpu", "cuda"):
        output = tmp_path / f"{backend}.mkv"
        video(clips / "vfr.mp4", output, uncalibrated, "--backend", backend, "--codec", "ffv1")
        drawn.append(pixels_of(output, 64, 128))
    assert (drawn[0] != drawn[1]).mean() < 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_nvenc_keeps_times_and_colours(clips: Path, uncalibrated: Path, tmp_path: Path, codec: Codec) -> None:
    """The frames are enlarged first, because NVENC has a minimum size."""
    if not has_hardware_encoder(Encoding(codec, crf=20, bits=8), 384, 512):
        pytest.skip(f"this GPU does not encode {codec}; GPUs for data centres, such as the H100, have no NVENC")
    source = tmp_path / "large.mp4"
    ffmpeg("-i", clips / "vfr.mp4", "-vf", "scale=128:96", "-c:v", "libx264", "-c:a", "copy", source)
    video(source, tmp_path / "out.mp4", uncalibrated, "--encoder", "nvenc", "--codec", codec)
    assert gaps(tmp_path / "out.mp4") == gaps(source)
    assert tags(tmp_path / "out.mp4") == tags(source)


ALL = 0.999
"""α at which nearly every frame is untypical."""


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of a test picture. A few frames have noise, so they are untypical."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    noise = "between(n,6,8)+between(n,14,15)"
    mixed = f"[0:v]noise=alls=100:allf=t:enable='{noise}'[v]"
    picture = ["-f", "lavfi", "-i", "testsrc2=s=32x16:r=10:d=2"]
    ffmpeg(*picture, "-filter_complex", mixed, "-map", "[v]", "-c:v", "ffv1", path)
    return path


def test_untypical_frames_are_marked_dropped_or_replaced(calibrated: Path, noisy: Path, tmp_path: Path) -> None:
    log = json_lines(video(noisy, tmp_path / "plain.mkv", calibrated, "--json").stdout)
    values = sorted(entry["sample_typicality"] for entry in log)
    assert values[0] < values[-1]
    least = (values[0] + values[-1]) / 2
    expected = sum(value < least for value in values)
    options = ["--min-typicality", least, "--otherwise"]
    marked = video(noisy, tmp_path / "marked.mkv", calibrated, *options, "keep")
    assert f"{expected} frames are untypical: marked" in marked.stderr
    assert len(frames_of(tmp_path / "marked.mkv")) == len(log)
    dropped = video(noisy, tmp_path / "dropped.mkv", calibrated, *options, "drop")
    assert f"{expected} frames are untypical: dropped" in dropped.stderr
    times = [round(seconds, 3) for seconds, _, _ in frames_of(tmp_path / "dropped.mkv")]
    assert times == [round(entry["seconds"], 3) for entry in log if entry["sample_typicality"] >= least]
    replaced = video(noisy, tmp_path / "replaced.mkv", calibrated, *options, "bicubic")
    assert f"{expected} frames are untypical: replaced by the enlarged input" in replaced.stderr
    options = ["--min-typicality", ALL, "--otherwise", "drop", "--start", 0.6, "--end", 0.9]  # frames with noise
    all_of_them = video(noisy, tmp_path / "none.mkv", calibrated, *options, code=1)
    assert "all 3 frames are untypical" in all_of_them.stderr
    assert not (tmp_path / "none.mkv").exists()
