"""Time of a video job, compared with reading, drawing and writing its frames separately; and memory of a long job.

A job reads, draws and writes in threads of one process. Drawing has one CPU thread by default. At best the job takes as
long as its slowest part. Encoders and decoders use as many threads as there are cores, so each part may be faster alone
than beside the others. "bound" is the least possible value of "job / slowest": the CPU seconds of the three separate
parts, spread over all cores, divided by the seconds of the slowest part; but at least 1.

With a real model, drawing takes nearly all the time. Therefore the other cases are drawn by an untrained model that is
as small as possible. It enlarges the frames and adds a little noise, so that the encoder has work to do.
"""

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import report
import torch
from metrics import Picture
from quality import PHOTOGRAPHS

from caflow_export.export import export
from caflow_runtime.batching.sampling_config import SamplingConfig
from caflow_runtime.jobs.folder import settings_of_pipeline
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_runtime.pipeline.stream import Frame, Stream, StreamSettings
from caflow_runtime.video.encoding import Encoding
from caflow_runtime.video.file_source import FileSource
from caflow_runtime.video.frame_source import CLOCK
from caflow_runtime.video.job import VideoJob
from caflow_runtime.video.segment_lengths import SEGMENT_FRAMES
from caflow_runtime.video.segment_store import VideoSettings, identity_of
from caflow_runtime.video.sink import SegmentWriter
from caflow_training import checkpoint
from caflow_training.config import CAFlowConfig
from caflow_training.model import CAFlow
from caflow_training.tasks import SuperResolution

CLIP = PHOTOGRAPHS / "clips" / "vtest.avi"
FRAMES, ROUNDS = 100, 3
FRAMES_OF_MEMORY, EARLY, TINY = 2000, 100, (16, 12)
SMALL = CAFlowConfig(
    levels=1,
    condition_steps=1,
    target_steps=1,
    own_steps=1,
    cross_steps=1,
    image_width=4,
    conditional_width=4,
    residual=True,
    task=SuperResolution(scale=4),
)
SOURCE = Encoding("h264", 18, 8)
"""Encoding of the source."""
PACKAGES = ("onnxruntime", "av", "numpy")


@dataclass(frozen=True)
class Case:
    """Model, source and encoding of one measured job."""

    model: str
    size: tuple[int, int]
    """Width and height of the source."""
    temperature: float
    encoding: Encoding


CASES = (
    Case("given", (64, 48), 0.8, Encoding("h264", 18, 8)),
    Case("small", (128, 96), 0.05, Encoding("h264", 18, 8)),
    Case("small", (128, 96), 0.05, Encoding("hevc", 8, 10)),
)


def small_model(folder: Path) -> Path:
    """Export an untrained model that is as small as possible. Return its bundle."""
    torch.manual_seed(0)
    checkpoint.save(folder / "small.pt", CAFlow(SMALL))
    return export(folder / "small.pt").path


def images(size: tuple[int, int], frames: int) -> Iterator[Picture]:
    """Generate `frames` frames of the clip, resized to `size` (width, height). The clip repeats if it is too short."""
    reduced = (cv2.resize(timed.image, size, interpolation=cv2.INTER_AREA) for timed in FileSource(CLIP).frames())
    return islice(cycle(np.asarray(image, np.uint8) for image in reduced), frames)


def read(path: Path) -> list[Picture]:
    """Return all frames of a video."""
    return [timed.image for timed in FileSource(path).frames()]


def draw(stream: Callable[[], Stream], conditions: list[Picture]) -> list[Frame]:
    """Return the result of every condition, drawn by a new stream."""
    return list(stream()(conditions))


def write(path: Path, pixels: list[Any], encoding: Encoding) -> None:
    """Write all frames to a video file, at the frame rate of the clip."""
    info = FileSource(CLIP).info
    height, width = pixels[0].shape[:2]
    writer = SegmentWriter(path, height, width, info, encoding)
    for number, of_frame in enumerate(pixels):
        writer.write(of_frame, round(number / info.rate / CLOCK))
    writer.close()


def run(path: Path, output: Path, pipe: Pipeline, temperature: float, encoding: Encoding, show: Any = None) -> None:
    """Run a whole video job."""
    source, streaming = FileSource(path), StreamSettings(SamplingConfig(1, temperature))
    pipeline = settings_of_pipeline(pipe)
    settings = VideoSettings(pipeline, streaming, encoding, SEGMENT_FRAMES, identity_of(source))
    VideoJob(pipe, source, output, settings, show).run()


def made_source(folder: Path, size: tuple[int, int], frames: int) -> Path:
    """Write the resized clip to a video file and return its path."""
    path = folder / f"{size[0]}×{size[1]}, {frames}.mp4"
    write(path, [image + np.float32(0.5) for image in images(size, frames)], SOURCE)
    return path


def opened(pipe: Pipeline, temperature: float) -> Callable[[], Stream]:
    """Return a function that opens a new stream."""
    return partial(Stream, pipe, StreamSettings(SamplingConfig(1, temperature)))


def measure(case: Case, pipe: Pipeline, folder: Path) -> dict[str, Any]:
    """Measure each part separately, and the job. Return a row of the table."""
    source, output = made_source(folder, case.size, FRAMES), folder / f"result{case.encoding.segment_suffix}"
    stream = opened(pipe, case.temperature)
    drawn = [frame.pixels for frame in draw(stream, read(source))]
    parts: dict[str, Callable[[], object]] = {
        "read": partial(read, source),
        "draw": partial(draw, stream, read(source)),
        "write": partial(write, output, drawn, case.encoding),
        "job": partial(run, source, output, pipe, case.temperature, case.encoding),
    }
    seconds, cpu = taking_turns(parts)
    slowest = max(seconds[name] for name in ("read", "draw", "write"))
    work = sum(cpu[name] for name in ("read", "draw", "write"))
    height, width = drawn[0].shape[:2]
    return {
        "model": case.model,
        "result": f"{width}×{height}",
        "codec": f"{case.encoding.codec}, crf {case.encoding.crf}, {case.encoding.bits} bits",
        **{f"{name} s": value for name, value in seconds.items()},
        "job / slowest": seconds["job"] / slowest,
        "bound": max(1.0, work / len(os.sched_getaffinity(0)) / slowest),
        "sum / slowest": sum(seconds[name] for name in ("read", "draw", "write")) / slowest,
        "write CPU s": cpu["write"],
        "job CPU s": cpu["job"],
    }


def taking_turns(parts: dict[str, Callable[[], object]]) -> tuple[dict[str, float], dict[str, float]]:
    """Run the parts in turns. Return the median wall seconds and the median CPU seconds of each part."""
    wall: dict[str, list[float]] = {name: [] for name in parts}
    cpu: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(ROUNDS):
        for name, part in parts.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            part()
            wall[name].append(time.perf_counter() - started)
            cpu[name].append(time.process_time() - cpu_started)
    medians = [{name: statistics.median(values) for name, values in of.items()} for of in (wall, cpu)]
    return medians[0], medians[1]


def memory(pipe: Pipeline, folder: Path) -> list[dict[str, Any]]:
    """Return the peak memory of the process, in MB, before, early in and at the end of a long job of tiny frames."""
    source = made_source(folder, TINY, FRAMES_OF_MEMORY)
    peaks = [peak()]
    run(source, folder / "long.mp4", pipe, 0.8, SOURCE, show=lambda *_: peaks.append(peak()))
    return [{"frames": frames, "peak MB": peaks[frames]} for frames in (0, EARLY, FRAMES_OF_MEMORY)]


def peak() -> float:
    """Return the peak memory of the process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@click.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path, exists=True))
@report.options
def main(folder: Path, threads: int, json_file: Path | None) -> None:
    """Measure a video job with BUNDLE.

    Download the clips first: python models/photographs.py clips build/photographs/clips.
    """
    rows = []
    with tempfile.TemporaryDirectory() as name, load(folder, "cpu", threads) as pipe:
        peaks = memory(pipe, Path(name))  # first, since a peak includes all earlier work
        with load(small_model(Path(name)), "cpu", threads) as small:
            for case in CASES:
                rows.append(measure(case, pipe if case.model == "given" else small, Path(name)))
    report.show(rows)
    print()
    report.show(peaks)
    report.write(json_file, rows, PACKAGES, memory=peaks, threads=threads, frames=FRAMES, rounds=ROUNDS)


if __name__ == "__main__":
    main()
