"""Building of TensorRT engines from the graphs of a bundle.

TensorRT builds for the local GPU. TensorRT-RTX builds for any supported compute capability, without a GPU. The same
code serves `tensorrt` from version 10.3 on and `tensorrt_rtx`. Networks are strongly typed, so engines use the types
of the exported graphs. TF32 is disabled, because it would make the inverses inaccurate.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import Any

import msgspec

from caflow_export.build_progress import cancelling_on_ctrl_c, progress_monitor
from caflow_export.trt_flavor import choose
from caflow_export.verify_engines import verify_engines
from caflow_export.weights import load_whole, widen
from caflow_runtime.backends import tensorrt_library as trt_module
from caflow_runtime.backends.cache_file import read_cache, write_cache
from caflow_runtime.backends.cuda_device import CudaDevice
from caflow_runtime.backends.gpu import first_gpu
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.backends.tensorrt import TensorRT
from caflow_runtime.backends.tensorrt_library import logger, module, recorder, strongly_typed
from caflow_runtime.bundle import engine_sets as engines
from caflow_runtime.bundle import manifest as bundle
from caflow_runtime.bundle.engine_sets import NAMES, Engine, EngineSet, Flavor, Profile
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import Graph, Manifest, Model, size_of
from caflow_runtime.bundle.reading import describe_file, read_manifest, sha256_of, verify_files
from caflow_runtime.errors import BackendError
from caflow_runtime.whole_files import whole_folder

MAX_ROWS = 16
MAX_SIZE = (1024, 1024)
TYPICAL_SIDE = 64

ShowGraphs = Callable[[str, int, int], None]
"""Callback for progress: called with the current action, the number of finished graphs and the number of all graphs."""
Say = Callable[[str], None]


class BuildFailed(RuntimeError):
    """TensorRT cannot build an engine from a graph."""


def build_engines(
    folder: Path,
    flavor: Flavor | None = None,
    compute_capabilities: Sequence[str] = (),
    max_rows: int = MAX_ROWS,
    max_size: tuple[int, int] = MAX_SIZE,
    show: ShowGraphs | None = None,
    say: Say | None = None,
) -> list[Path]:
    """Build an engine set for each compute capability, with an engine for each graph. Return the sets' folders.

    An engine set for the local GPU is verified before it is stored.

    Arguments:
        folder: the bundle. Engines have the precision of the bundle.
        flavor: the flavor of TensorRT. By default "rtx" if compute capabilities are named, otherwise the installed
            flavor, or "tensorrt" if both are installed.
        compute_capabilities: compute capabilities to build for, such as "8.6". By default that of the local GPU.
        max_rows: largest number of rows in one run.
        max_size: largest height and width of a target in a run with one row, in pixels. A run with `max_rows` rows has
            at most the same total number of pixels.
        show: called with the progress.
        say: called with each line of the verification's table.

    Raises:
        BundleError: if the bundle cannot be used.
        TensorRTUnavailable: if TensorRT is not installed or does not support a GPU.
        NeedsGpu: if this machine has no GPU to build for.
        BuildFailed: if TensorRT cannot build an engine. The message names the graph.
        BackendError: if the local GPU cannot be used, or an engine does not run.
        VerificationFailed: if an engine does not compute the same as its graph.
        KeyboardInterrupt: after Ctrl-C. Unfinished engine sets are removed.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    device, here = _device_here(is_wanted=not compute_capabilities), first_gpu()
    if device is not None and here is not None:  # CUDA and the driver may number GPUs differently
        here = replace(here, name=device.name, compute_capability=device.compute_capability)
    flavor, wanted = choose(flavor, compute_capabilities, here)
    builder = _Builder(flavor, folder, manifest, profiles(manifest.model, max_rows, max_size), device, say)
    found = []
    for place, (compute_capability, gpu) in enumerate(wanted):
        count, before = len(wanted) * len(manifest.graphs), place * len(manifest.graphs)

        def tell(what: str, done: int, before: int = before, count: int = count) -> None:
            if show:
                show(what, before + done, count)

        found.append(builder.build_set(compute_capability, gpu, tell))
    return found


def profiles(model: Model, max_rows: int, max_size: tuple[int, int]) -> list[Profile]:
    """Return two profiles with about the same number of pixels: one row of the largest target, and `max_rows` rows.

    No engine then requires memory for many rows of the largest target. With `max_rows` 1 there is one profile.
    """
    multiple = model.size_multiple
    height, width = (max(multiple, -(-side // multiple) * multiple) for side in max_size)
    single = Profile(1, height, width)
    if max_rows == 1:
        return [single]
    side = max(multiple, min(height, width, isqrt(height * width // max_rows) // multiple * multiple))
    return [single, Profile(max_rows, side, side)]


def _device_here(is_wanted: bool) -> CudaDevice | None:
    """Return the local GPU, or None if there is none or engines cannot be verified on it.

    Raises:
        BackendError: if `is_wanted`, and there is a GPU on which engines cannot be verified.
    """
    if first_gpu() is None:
        return None
    try:
        OnnxRuntimeCpu()
        return CudaDevice()
    except BackendError:
        if is_wanted:
            raise
        return None


class _Builder:
    """Builds engine sets from the graphs of one bundle."""

    def __init__(
        self,
        flavor: Flavor,
        folder: Path,
        manifest: Manifest,
        profiles: list[Profile],
        device: CudaDevice | None,
        say: Say | None,
    ) -> None:
        self.flavor = flavor
        self.folder = folder
        self.manifest = manifest
        self.profiles = profiles
        self.device = device
        self.say = say
        self.trt = module(flavor)
        self.version = engines.installed_version(flavor) or ""

    def build_set(self, compute_capability: str, gpu: str | None, tell: Callable[[str, int], None]) -> Path:
        """Build the engine set for one compute capability, and return its folder.

        The set is verified if the local GPU has this compute capability. If anything fails, no set is written.

        Arguments:
            gpu: name of the GPU if the engines are for this GPU only, otherwise None.
        """
        name = engines.folder_name(self.flavor, self.version, compute_capability, gpu, self.manifest.precision)
        final = self.folder / engines.FOLDER / name
        with whole_folder(final) as partial:
            built = EngineSet(
                manifest_sha256=sha256_of(self.folder / MANIFEST),
                flavor=self.flavor,
                version=self.version,
                compute_capability=compute_capability,
                gpu=gpu,
                precision=self.manifest.precision,
                profiles=self.profiles,
                engines=self._build_all(partial, compute_capability, gpu, tell),
            )
            if self.device is not None and self.device.compute_capability == compute_capability:
                tell(f"verifying for {compute_capability}", len(built.engines))
                with closing(TensorRT(self.device, self.folder, partial, built)) as backend:
                    measured = verify_engines(self.folder, backend, self.say)
                built = msgspec.structs.replace(built, verification=measured)
            engines.write(partial, built)
        return final

    def _build_all(
        self, folder: Path, compute_capability: str, gpu: str | None, tell: Callable[[str, int], None]
    ) -> list[Engine]:
        """Build the engine of each graph and write it to `folder`."""
        built = []
        with cancelling_on_ctrl_c() as cancelled:
            for done, graph in enumerate(self.manifest.graphs):

                def show(phase: str, graph: str = graph.name, done: int = done) -> None:
                    tell(f"{graph} for {compute_capability}: {phase}", done)

                show("reading")
                plan = self.build(graph, compute_capability, gpu, progress_monitor(self.trt, cancelled, show))
                if cancelled.is_set():
                    raise KeyboardInterrupt
                if plan is None:
                    raise BuildFailed(
                        f"{graph.name}: {NAMES[self.flavor]} cannot build an engine: {recorder(self.flavor).text()}"
                    )
                (folder / f"{graph.name}.engine").write_bytes(plan)
                built.append(Engine(graph.name, describe_file(folder, f"{graph.name}.engine")))
        return built

    def build(self, graph: Graph, compute_capability: str, gpu: str | None, monitor: Any) -> Any:
        """Return the engine of one graph as a buffer of bytes, or None if the build failed or was cancelled.

        Raises:
            BuildFailed: if TensorRT does not support the graph.
        """
        trt = self.trt
        builder = trt.Builder(logger(self.flavor))
        network = parse(self.flavor, builder, self.folder / graph.file.path)
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)
        if self.flavor == "rtx":  # otherwise engines allocate memory and cannot be recorded
            config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        config.progress_monitor = monitor
        if gpu is None:
            config.num_compute_capabilities = 1
            named = getattr(trt.ComputeCapability, f"SM{compute_capability.replace('.', '')}")
            config.set_compute_capability(named, 0)
        timings = None
        if gpu is not None:  # TensorRT-RTX times kernels on the machine that runs the engine
            name = engines.folder_name(self.flavor, self.version, compute_capability, gpu, "any")
            timings = self.folder / engines.FOLDER / f"{name}.timing"
            if not config.set_timing_cache(config.create_timing_cache(read_cache(timings)), False):
                config.set_timing_cache(config.create_timing_cache(b""), False)
        for profile in self.profiles:
            config.add_optimization_profile(self._profile(builder, graph, profile))
        plan = trt_module.build(self.flavor, builder, network, config)
        if timings is not None and plan is not None:
            write_cache(timings, bytes(config.get_timing_cache().serialize()))
        return plan

    def _profile(self, builder: Any, graph: Graph, largest: Profile) -> Any:
        """Return an optimization profile, with the smallest, typical and largest shape of each input."""
        model = self.manifest.model
        cell, smallest = bundle.cell_side(model, graph.name), model.size_multiple
        typical = [min(TYPICAL_SIDE, side) if largest.rows > 1 else side for side in (largest.height, largest.width)]
        sizes = [
            {"rows": rows, "images": rows, "h": height // cell, "w": width // cell}
            for rows, height, width in (
                (1, smallest, smallest),
                (largest.rows, *typical),
                (largest.rows, largest.height, largest.width),
            )
        ]
        profile = builder.create_optimization_profile()
        for port in graph.inputs:
            if any(isinstance(size, str) for size in port.shape):
                profile.set_shape(port.name, *(tuple(size_of(size, known) for size in port.shape) for known in sizes))
        return profile


def parse(flavor: Flavor, builder: Any, path: Path) -> Any:
    """Return a graph as a strongly typed TensorRT network.

    Raises:
        BuildFailed: if TensorRT does not support the graph. The message names the nodes.
    """
    trt = module(flavor)
    network = builder.create_network(strongly_typed(trt))
    parser = trt.OnnxParser(network, logger(flavor))
    proto = load_whole(path)
    widen(proto)
    if not parser.parse(proto.SerializeToString()):
        errors = [parser.get_error(k) for k in range(parser.num_errors)]
        nodes = "; ".join(f"{one.node_operator()} {one.node_name()}: {one.desc()}" for one in errors)
        raise BuildFailed(f"{path.stem}: {NAMES[flavor]} does not support the graph: {nodes}")
    return network
