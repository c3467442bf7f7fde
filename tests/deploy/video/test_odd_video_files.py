"""`caflow video` with files that are old, damaged, without times or no videos, and with options that do not fit."""

import subprocess
from pathlib import Path

import av
import pytest
from clips import FFMPEG, ffmpeg, frames_of, gaps
from commands import messages
from PIL import Image
from video_runs import video

from caflow_deploy.video.file_source import FileSource


@pytest.mark.parametrize("name", ["old.avi", "old.mkv", "old.mp4"])
def test_tags_that_are_not_utf_8_are_read(clips: Path, uncalibrated: Path, tmp_path: Path, name: str) -> None:
    """Old software writes them, for the file, its streams and its chapters."""
    chapters = b";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=No\xebl\n"
    (tmp_path / "chapters.txt").write_bytes(chapters)
    maps = ["-map", "0", "-map_metadata", "0", "-map_chapters", "1"]
    tags = ["-metadata", b"title=Caf\xe9", "-metadata", b"artist=Andr\xe9 \x93A\x94"]
    inputs = ["-i", clips / "vfr.mp4", "-i", tmp_path / "chapters.txt"]
    line = [FFMPEG, "-v", "error", *inputs, *maps, "-c:a", "mp2", *tags, "-metadata:s:a:0", b"title=Fran\xe7ais"]
    subprocess.run([*line, tmp_path / name], check=True)
    read = {key.lower(): value for key, value in FileSource(tmp_path / name).info.metadata.items()}
    assert (read["title"], read["artist"]) == ("Café", "André “A”")
    video(tmp_path / name, tmp_path / "out.mkv", uncalibrated)
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert container.metadata["title"] == "Café"
        if name != "old.mp4":  # MP4 stores this title under another name
            assert container.streams.audio[0].metadata["title"] == "Français"
        if name != "old.avi":  # AVI has no chapters
            assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["Noël"]


@pytest.mark.parametrize("name", ["raw.h264", "b_frames.avi"])
def test_files_without_times_run_at_their_rate(uncalibrated: Path, tmp_path: Path, name: str) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=32x16:r=25:d=1", "-c:v", "libx264", "-bf", 3, tmp_path / name)
    video(tmp_path / name, tmp_path / "out.mp4", uncalibrated)
    assert len(frames_of(tmp_path / "out.mp4")) == 25
    assert gaps(tmp_path / "out.mp4")[40] >= 20


def test_a_truncated_video_gives_its_frames_and_an_error(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    whole = (clips / "words.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    done = video(tmp_path / "cut.mkv", tmp_path / "out.mkv", uncalibrated, code=1)
    assert 0 < len(frames_of(tmp_path / "out.mkv")) < len(frames_of(clips / "words.mkv"))
    assert "is incomplete: the pictures end at 0." in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "cut.mkv", tmp_path / "out.mkv"]


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mp4", ".mov", ".avi"])
def test_a_cut_is_noticed_wherever_it_is(tmp_path: Path, suffix: str) -> None:
    """With many B-frames the last frame is stored long before others that are shown earlier."""
    codec = ["libvpx"] if suffix == ".webm" else ["libx264", "-bf", 16, "-x264-params", "b-adapt=0"]
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    moov_first = ["-movflags", "+faststart"] if suffix in (".mp4", ".mov") else []
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=160x120:r=12:d=2", "-c:v", *codec, *moov_first, whole)
    data = whole.read_bytes()
    for length in (*range(len(data) // 2, len(data), len(data) // 40), len(data)):
        cut.write_bytes(data[:length])
        source = FileSource(cut)
        frames = len(list(source.frames()))
        assert (source.ended_early is None) == (length == len(data)), (length, frames)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_damage_in_the_middle_is_reported(uncalibrated: Path, tmp_path: Path, suffix: str) -> None:
    """Players show such pictures, and the rest of the video is not lost."""
    clip, damaged = tmp_path / f"clip{suffix}", tmp_path / f"damaged{suffix}"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=12:d=2", "-c:v", "libx264", "-g", 4, "-bf", 0, clip)
    contents = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    place = contents.index(bytes(packets[8])) + packets[8].size // 2
    contents[place : place + 100] = bytes(100)
    damaged.write_bytes(contents)
    done = video(damaged, tmp_path / "out.mkv", uncalibrated, code=1)
    assert "is damaged: FFmpeg reports errors in its pictures, first at 0.67 s" in done.stderr
    assert len(frames_of(tmp_path / "out.mkv")) >= 20


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff", ".avif", ""])
def test_a_still_picture_is_refused_as_a_video(uncalibrated: Path, tmp_path: Path, suffix: str) -> None:
    """Its contents count, not its name. A GIF may have one frame, because `caflow image` does not read GIF."""
    picture, output = tmp_path / f"picture{suffix}", tmp_path / "out.mp4"
    Image.new("RGB", (32, 24)).save(picture, format=suffix[1:].replace("jpg", "jpeg") or "png")
    for more in ([], ["--dry-run"]):
        done = video(picture, output, uncalibrated, *more, code=2)
        assert done.stdout == ""
        assert done.stderr.startswith(f"caflow: {picture} is a picture, not a video; give it to caflow image")
    Image.new("RGB", (32, 24)).save(tmp_path / "picture.gif")
    video(tmp_path / "picture.gif", output, uncalibrated)


def test_a_picture_that_changes_its_size_ends_the_video(uncalibrated: Path, tmp_path: Path) -> None:
    for name, size in (("a.ts", "32x16"), ("b.ts", "48x32")):
        ffmpeg("-f", "lavfi", "-i", f"testsrc2=s={size}:r=30:d=0.5", "-c:v", "mpeg2video", tmp_path / name)
    (tmp_path / "two.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    done = video(tmp_path / "two.ts", tmp_path / "out.mp4", uncalibrated, code=1)
    assert "the size of its frames changes from 32×16 to 48×32" in done.stderr
    assert len(frames_of(tmp_path / "out.mp4")) >= 14  # MPEG-2 decoders hold one frame back


def test_sound_of_an_unknown_codec_is_omitted_but_not_frames(clips: Path, uncalibrated: Path, tmp_path: Path) -> None:
    strange = (clips / "front.mp4").read_bytes().replace(b"mp4a", b"zzzz").replace(b"esds", b"zzzz")
    (tmp_path / "strange.mp4").write_bytes(strange)
    for output in ("a.mp4", "a.mkv"):
        done = video(tmp_path / "strange.mp4", tmp_path / output, uncalibrated)
        assert "is omitted" in done.stderr
        assert len(frames_of(tmp_path / output)) == len(frames_of(clips / "vfr.mp4"))


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4"])
@pytest.mark.parametrize("place", ["clip.ts", "../{folder}/clip.ts", "{path}", "file://{path}"])
@pytest.mark.parametrize(
    "text", ["#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile '{}'\n"]
)
def test_a_list_of_other_files_is_refused(name: str, place: str, text: str, uncalibrated: Path, tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=32x16:r=5:d=1", "-c:v", "mpeg2video", tmp_path / "clip.ts")
    (tmp_path / name).write_text(text.format(place.format(folder=tmp_path.name, path=tmp_path / "clip.ts")))
    done = video(tmp_path / name, tmp_path / "out.mkv", uncalibrated, code=2)
    assert f"{name} is a list of other files" in done.stderr


@pytest.mark.parametrize(
    ("source", "output", "options", "message"),
    [
        ("nothing.mp4", "out.mp4", [], "there is no such file"),
        ("sound.m4a", "out.mp4", [], "expected a video; it contains no pictures"),
        ("vfr.mp4", "out.avi", [], "the name must end in .mp4, .mov"),
        ("vfr.mp4", "out.mp4", ["--codec", "ffv1"], ".mp4 files cannot contain ffv1"),
        ("vfr.mp4", "out.mp4", ["--crf", 60], "crf must be at most 51 for h264; got 60"),
        ("vfr.mp4", "out.mp4", ["--batch", 2, "--noise", "fresh"], "--batch requires --noise fixed"),
        ("vfr.mp4", "out.mp4", ["--drop", "latest"], "--drop requires a camera or a stream"),
        ("vfr.mp4", "out.mp4", ["--workers", 2, "--metrics", 9100], "--metrics does not work with --workers"),
        ("vfr.mp4", "out.mp4", ["--workers", 2, "--encoder", "nvenc"], "--encoder nvenc does not work with --workers"),
        ("vfr.mp4", "out.mp4", ["--noise", "blue"], "must be fixed, fresh, or a number"),
        (".", "out.mp4", [], "is a folder; expected a video file"),
        ("empty.mp4", "out.mp4", [], "empty.mp4 cannot be read as a video: FFmpeg tried to open it and reports: "),
        ("strange.mp4", "out.mp4", [], "FFmpeg does not know the codec of its pictures"),
        ("frameless.mp4", "out.mp4", [], "expected a video; none of its frames can be decoded"),
        ("vfr.mp4", "out.mp4", ["--preset", "quick"], "libx264 cannot encode 128×64 with --preset quick"),
        ("vfr.mp4", "out.mkv", ["--preset", "slow", "--codec", "ffv1"], "ffv1 does not support --preset"),
        ("vfr.mp4", "out.mp4", ["--pixel-format", "nonsense"], "--pixel-format nonsense is unknown to FFmpeg"),
        ("vfr.mp4", "out.mp4", ["--pixel-format", "bgr0"], "for libx264; got bgr0"),
        ("vfr.mp4", "out.gif", ["--pixel-format", "yuv420p"], "gif does not support --preset or --pixel-format"),
        ("vfr.mp4", "out.webm", ["--codec", "h264"], ".webm files cannot contain h264: set --codec to one of vp9, av1"),
        ("vfr.mp4", "out.mp4", ["--start", 5], "there is no frame from 5 s"),
        ("vfr.mp4", "out.mp4", ["--start", 0.5, "--end", 0.4], "end must be later than start"),
        ("vfr.mp4", "out.mp4", ["--start", "1:2:3:4"], "must be seconds or HH:MM:SS, such as 83.5"),
        ("vfr.mp4", "out.mp4", ["--rate", 25], "has its own frame rate: --rate is only for numbered images"),
        ("vfr.mp4", "out.mp4", ["--scale", 7], "at most 6 times as large with this ×4 model"),
        ("vfr.mp4", "out.mp4", ["--width", 32], "results must be larger than the frames"),
        ("vfr.mp4", "out.mp4", ["--width", 51], "width must be a multiple of 2"),
        ("vfr.mp4", "out.mp4", ["--scale", 2, "--fit", "50x50"], "expected exactly one of a scale, a size"),
        ("vfr.mp4", "a.mkv", ["--width", 45, "--codec", "ffv1", "--pixel-format", "yuv420p"], "have an even width"),
    ],
)
def test_wrong_video_files_and_options_are_refused_in_one_line(
    clips: Path, uncalibrated: Path, tmp_path: Path, source: str, output: str, options: list[str], message: str
) -> None:
    """A dry run refuses them too."""
    for more in ([], ["--dry-run"]):
        done = video(clips / source, tmp_path / output, uncalibrated, *options, *more, code=2)
        *usage, last = messages(done.stderr)
        assert message in last
        assert not usage or usage[0].startswith("Usage: ")
        assert not list(tmp_path.iterdir())
