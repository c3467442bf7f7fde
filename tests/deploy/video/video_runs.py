"""Runs of `caflow video`, and of video jobs in processes that tests stop."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from commands import Done, caflow, command, heeding_ctrl_c, in_a_process, json_lines_of, started

from caflow_deploy.video.segment_store import JOURNAL

LOSSLESS = ["--codec", "ffv1"]
SCRIPT = """
import os, signal, sys
from pathlib import Path
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.pipeline.stream import StreamSettings
from caflow_runtime.batching.draw_options import DrawOptions
from video_jobs import video_job
source, output, bundle, noise, how, last = sys.argv[1:]
noise = noise if noise == "fixed" else float(noise)
def show(frame, timed):
    if frame.number == int(last):
        os.kill(os.getpid(), getattr(signal, how))
pipe = load(bundle, backend="cpu", threads=1)
drawing = video_job(pipe, Path(source), Path(output), StreamSettings(draw=DrawOptions(2), noise=noise), 10, show).run()
print(drawing.frames, drawing.stopped is not None)
"""


def video(source: object, output: object, bundle: Path, *options: object, code: int = 0) -> Done:
    """Run `caflow video` with one sample. It ends with the exit code `code`."""
    return caflow("video", source, "-o", output, "--model", bundle, "-n", 1, "--threads", 1, *options, code=code)


def best_of_2(source: Path, output: Path, bundle: Path, *options: object, code: int = 0) -> Done:
    """Run `caflow video` with the better of two samples, as `job` does."""
    return video(source, output, bundle, "-n", 2, *options, code=code)


@contextmanager
def begun(source: Path, output: Path, bundle: Path, *options: object) -> Iterator[Any]:
    """Start `caflow video` and wait for its first frame. It ends only if its output is read: the pipe is small."""
    line = command("video", source, "-o", output, "--model", bundle, "--threads", 1, "--json", *options)
    with started(line, pipesize=4096) as process:
        process.stdout.readline()
        yield process


def job(
    source: Path, output: Path, uncalibrated: Path, noise: str, how: str = "", last: int = -1
) -> "subprocess.CompletedProcess[str]":
    """Run a job with segments of ten frames. The process sends itself the signal `how` after frame `last`."""
    line = [sys.executable, "-c", SCRIPT, source, output, uncalibrated, noise, how, last]
    return in_a_process(heeding_ctrl_c(line), env=finding_helpers())


def finding_helpers() -> dict[str, str]:
    """Return an environment in which `SCRIPT` finds the modules of the tests."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


def segments_of(parts: Path) -> list[dict[str, Any]]:
    """Return the records of the finished segments."""
    return json_lines_of(parts / JOURNAL)
