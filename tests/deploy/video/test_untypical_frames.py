"""Untypical frames in `caflow video`: they are marked, dropped or replaced."""

from pathlib import Path

import pytest
from clips import ffmpeg, frames_of
from commands import json_lines
from video_runs import video

ALL = 0.999
"""α at which every frame is untypical."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of a test picture. A few frames have noise, so they are untypical."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    noise = "between(n,6,8)+between(n,14,15)"
    mixed = f"[0:v]noise=alls=100:allf=t:enable='{noise}'[v]"
    picture = ["-f", "lavfi", "-i", "testsrc2=s=32x16:r=10:d=2"]
    ffmpeg(*picture, "-filter_complex", mixed, "-map", "[v]", "-c:v", "ffv1", path)
    return path


def test_untypical_frames_are_marked_dropped_or_replaced(calibrated: Path, clip: Path, tmp_path: Path) -> None:
    log = json_lines(video(clip, tmp_path / "plain.mkv", calibrated, "--json").stdout)
    values = sorted(entry["sample_typicality"] for entry in log)
    assert values[0] < values[-1]
    least = (values[0] + values[-1]) / 2
    expected = sum(value < least for value in values)
    options = ["--min-typicality", least, "--otherwise"]
    marked = video(clip, tmp_path / "marked.mkv", calibrated, *options, "keep")
    assert f"{expected} frames are untypical: marked" in marked.stderr
    assert len(frames_of(tmp_path / "marked.mkv")) == len(log)
    dropped = video(clip, tmp_path / "dropped.mkv", calibrated, *options, "drop")
    assert f"{expected} frames are untypical: dropped" in dropped.stderr
    times = [round(seconds, 3) for seconds, _, _ in frames_of(tmp_path / "dropped.mkv")]
    assert times == [round(entry["seconds"], 3) for entry in log if entry["sample_typicality"] >= least]
    replaced = video(clip, tmp_path / "replaced.mkv", calibrated, *options, "bicubic")
    assert f"{expected} frames are untypical: replaced by the enlarged input" in replaced.stderr
    all_of_them = video(clip, tmp_path / "none.mkv", calibrated, "--min-typicality", ALL, "--otherwise", "drop", code=1)
    assert f"all {len(log)} frames are untypical" in all_of_them.stderr
    assert not (tmp_path / "none.mkv").exists()
