"""`caflow video --show`: frames in a real player, without a display."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from clips import ffmpeg, frames_of
from commands import command, in_a_process, messages, started

WITHOUT_DISPLAY = os.environ | {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
needs_player = pytest.mark.skipif(shutil.which("ffplay") is None, reason="requires ffplay")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=32x16:r=10:d=2", "-c:v", "ffv1", path)
    return path


def showing(clip: Path, bundle: Path, *options: object) -> list[str]:
    return command("video", clip, "--show", "--bundle", bundle, "-n", 1, "--threads", 1, *options)


@needs_player
def test_a_shown_video_is_also_written(clip: Path, uncalibrated: Path, tmp_path: Path) -> None:
    done = in_a_process(showing(clip, uncalibrated, "-o", tmp_path / "out.mp4"), env=WITHOUT_DISPLAY)
    assert done.returncode == 0, done.stderr
    assert len(frames_of(tmp_path / "out.mp4")) == 20


@needs_player
def test_a_closed_player_stops_the_video(clip: Path, uncalibrated: Path) -> None:
    with started(showing(clip, uncalibrated, "--json"), env=WITHOUT_DISPLAY) as process:
        process.stdout.readline()  # the first frame is drawn, so the player runs
        (player,) = children_of(process.pid, "ffplay")
        os.kill(player, signal.SIGTERM)
        _, stderr = process.communicate()
    assert process.returncode == 130
    assert messages(stderr)[-1].startswith("caflow: stopped after ")


@needs_player
def test_without_a_display_the_error_says_so(clip: Path, uncalibrated: Path, tmp_path: Path) -> None:
    missing = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "XDG_RUNTIME_DIR": str(tmp_path)}
    done = in_a_process(showing(clip, uncalibrated), env=os.environ | missing)
    assert done.returncode == 2
    assert "--show requires a display" in done.stderr


@needs_player
@pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="requires an X server: apt-get install xvfb")
def test_a_player_opens_on_a_real_display(clip: Path, uncalibrated: Path) -> None:
    done = in_a_process(["xvfb-run", "-a", *showing(clip, uncalibrated)])
    assert (done.returncode, done.stdout) == (0, f"{clip} → a window  20 frames\n")


def test_without_a_player_the_error_names_both(clip: Path, uncalibrated: Path, tmp_path: Path) -> None:
    done = in_a_process(showing(clip, uncalibrated), env=WITHOUT_DISPLAY | {"PATH": str(tmp_path)})
    assert done.returncode == 2
    assert "--show requires a player, mpv or ffplay" in done.stderr


def children_of(parent: int, name: str) -> list[int]:
    """Return the processes of a name that a process has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = status.read_text()
        except OSError:  # it has ended
            continue
        if f"({name})" in text and text.rpartition(")")[2].split()[1] == str(parent):
            found.append(int(status.parent.name))
    return found
