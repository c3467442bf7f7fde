"""Variant of `gpu.py` that runs TensorRT engines."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_cases import FRAME, FRAME_SAMPLES, NAMES, SAMPLES, Case, Comparison, Subject, Truth
from torch import Tensor

from caflow_export.measure import VerificationFailed
from caflow_export.to_tensorrt import BuildFailed, build_engines
from caflow_export.trt_flavor import NeedsGpu, TensorRTUnavailable, choose
from caflow_runtime.backends.gpu import first_gpu, used_memory
from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.backends.tensorrt import TensorRT
from caflow_runtime.bundle.manifest import PrecisionName
from caflow_runtime.errors import BackendError
from caflow_runtime.flow import scan
from caflow_runtime.flow.selftest import smooth_conditions
from caflow_runtime.pipeline.pipeline import OVERLAP, Pipeline
from caflow_runtime.rows.device_run import GraphChain


def engines_of(subject: Subject) -> Iterator[tuple[PrecisionName, Path, TensorRT]]:
    """Yield each precision with its bundle and the backend that runs the bundle's engines.

    Engines are built if the bundle has none. Print why engines are skipped, if they cannot be built or do not run.
    """
    try:
        choose(None, (), first_gpu())
    except (TensorRTUnavailable, NeedsGpu) as error:
        print(f"tensorrt is skipped: {error}")
        return
    for precision in NAMES:
        folder = subject.bundle(precision)
        try:
            if not (folder / "engines").is_dir():
                build_engines(folder, max_rows=max(SAMPLES), max_size=FRAME)
            backend = TensorRT.on_the_gpu(folder)
        except (BackendError, BuildFailed, VerificationFailed) as error:
            print(f"tensorrt {precision} is skipped: {error}")
        else:
            yield precision, folder, backend


def on_host(backend: TensorRT, array: Any) -> Tensor:
    """Return an array of the device as a tensor on the host."""
    return torch.from_numpy(backend.to_host(array))


def in_engines(backend: TensorRT, folder: Path, case: Case, levels: int) -> Callable[[], scan.Rows]:
    """Return a function that runs the engines of a bundle, recorded as one CUDA graph."""
    chain = GraphChain(Graphs(folder, backend))
    condition = backend.to_device(case.condition.permute(0, 2, 3, 1).contiguous().cpu().numpy())
    image = backend.to_device(torch.zeros(case.samples, dtype=torch.int64).numpy())
    noise = [backend.to_device(z.cpu().numpy()) for z in case.per_level(levels)]
    return lambda: chain.sample_at_once(condition, image, noise)


def engine_rows(subject: Subject, case: Case, exact: Truth, compared: Comparison) -> Iterator[dict[str, Any]]:
    """Yield a row for each precision by TensorRT or TensorRT-RTX, if one of them builds for the GPU."""
    for precision, folder, backend in engines_of(subject):
        run = in_engines(backend, folder, case, subject.model.config.levels)
        errors = exact.errors(run(), partial(on_host, backend))
        yield compared.row(backend.name, precision, subject.seconds(run)) | errors


def engine_frames(subject: Subject) -> Iterator[dict[str, Any]]:
    """Yield rows with the frames of 1080p per second by engines.

    Inputs and results are either in the GPU's memory or in host memory.
    """
    scale = subject.model.config.task.scale
    frame = smooth_conditions(1, *(side // scale for side in FRAME))
    for precision, folder, backend in engines_of(subject):
        pipe = Pipeline(Graphs(folder, backend), pixel_budget=FRAME[0] * FRAME[1], overlap=OVERLAP)
        there = backend.to_device(frame)
        ways = {"device": partial(pipe.run, there)} | {"host": partial(pipe.best_of, frame)}
        for n in FRAME_SAMPLES:
            for way, run in ways.items():
                if way == "host" or n == 1:  # `run` requires all samples at once, which the pixel budget forbids
                    took = subject.seconds(partial(run, n=n))
                    row = {
                        "model": subject.name,
                        "way": f"{backend.name}, {way} to {way}",
                        "precision": precision,
                        "n": n,
                    }
                    yield row | {"ms": 1e3 * took, "frames/s": 1 / took, "GiB": (used_memory() or 0) / 2**30}
