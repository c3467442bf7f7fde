"""`caflow doctor`: what is installed, which backends work, and whether a bundle computes here what it should."""

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime import bundle
from caflow_runtime.backends.backend import Backend
from caflow_runtime.backends.onnx_runtime import Device, is_installed
from caflow_runtime.backends.select import open_backend
from caflow_runtime.bundle import BundleError, Manifest, cell_side
from caflow_runtime.calibration import read_calibration
from caflow_runtime.canary import canary_difference, smooth_conditions
from caflow_runtime.errors import BackendError, CaflowError
from caflow_runtime.graphs import Graphs
from caflow_runtime.noise import draw_noise
from caflow_runtime.pipeline import OVERLAP, PIXEL_BUDGET, Pipeline
from caflow_runtime.scan import Arrays, Graph
from caflow_runtime.selftest import flow_errors

State = Literal["ok", "absent", "failed"]
DEVICES: tuple[Device, ...] = ("cpu", "cuda")
SIDES_IN_MULTIPLES = (2, 3)
IMAGES, SAMPLES = 2, 3
TEMPERATURE = 0.8


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    """absent: not there, and need not be."""
    found: str
    remedy: str = ""
    """What to do about it, if anything."""


def check_environment() -> Iterator[Check]:
    """Python, the base packages, and ONNX Runtime in one of its two packages."""
    yield Check("python", "ok", platform.python_version())
    for package in ("caflow-deploy", "numpy"):
        yield Check(package, "ok", version(package))
    # Either build of OpenCV will do.
    yield Check("opencv", "ok", cv2.__version__)
    package = "onnxruntime-gpu" if is_installed("onnxruntime-gpu") else "onnxruntime"
    for device in DEVICES:
        try:
            open_backend(device)
        except BackendError as error:
            is_wanted = device == "cpu" or package == "onnxruntime-gpu"
            what, _, remedy = str(error).rpartition(": ")
            yield Check(f"onnxruntime {device}", "failed" if is_wanted else "absent", what, remedy)
        else:
            yield Check(f"onnxruntime {device}", "ok", f"{package} {version(package)}")


def check_bundle(folder: Path) -> Iterator[Check]:
    """The bundle's files, and the flow's own tests on every backend that is installed."""
    try:
        manifest = bundle.read_manifest(folder)
        bundle.verify_files(folder, manifest)
    except (BundleError, OSError) as error:
        yield Check("bundle", "failed", str(error), "copy or export the bundle again")
        return
    size = sum(file.bytes for file in bundle.files_of(manifest)) / 2**20
    yield Check("bundle", "ok", f"{len(manifest.graphs)} graphs, {size:.1f} MiB, every file as the manifest says")
    exported = [m for m in manifest.verification if m.graph in ("sample", "score")]
    if exported:
        worst = max(exported, key=lambda m: m.max_error / m.tolerance)
        found = f"{worst.what}: {worst.max_error:.1e} of {worst.tolerance:.0e} allowed ({worst.verified_with})"
        yield Check(f"{manifest.precision} error at export", "ok", found)
    calibrated = _check_calibration(folder)
    yield calibrated
    for device in DEVICES:
        try:
            backend = open_backend(device)
        except BackendError:
            continue
        yield from _check_on(Graphs(folder, backend), backend, calibrated.state == "ok")


def _check_calibration(folder: Path) -> Check:
    try:
        found = read_calibration(folder)
    except BundleError as error:
        what, _, remedy = str(error).rpartition(": ")
        return Check("calibration", "failed", what, remedy)
    if found is None:
        return Check("calibration", "absent", "none: typicality is not known", "caflow calibrate makes one")
    return Check("calibration", "ok", f"of {found.truth.images} crops of {found.photographs} photographs")


def _check_on(graphs: Graphs, backend: Backend, is_calibrated: bool) -> Iterator[Check]:
    manifest = graphs.manifest
    tolerances = {m.what: m.tolerance for m in manifest.verification if m.graph == "flow"}
    remedy = f"do not use this bundle on {backend.name}: try another backend or --precision fp32, and report it"
    is_invertible = any(what.startswith("noise of level") for what in tolerances)
    try:
        hosted = {name: _on_host(backend, graphs, name) for name in graphs}
        for _, what, error in flow_errors(hosted, manifest.model.levels, *_case(manifest), is_invertible):
            worst = float(np.abs(error).max())
            tolerance = tolerances.get(what, 0.0)
            state: State = "ok" if worst <= tolerance else "failed"
            found = f"{worst:.1e} of {tolerance:.0e} allowed"
            yield Check(f"{backend.name}: {what}", state, found, "" if state == "ok" else remedy)
        if is_calibrated:
            yield _check_canary(Pipeline(graphs, PIXEL_BUDGET, OVERLAP), remedy)
    except (CaflowError, MemoryError) as error:
        yield Check(backend.name, "failed", str(error), remedy)


def _check_canary(pipe: Pipeline, remedy: str) -> Check:
    """What the bundle was calibrated with, and what runs here, may each be off by what was allowed at export."""
    tolerances = [m.tolerance for m in pipe.manifest.verification if m.graph == "sample" and "likelihood" in m.what]
    allowed = 2 * max(tolerances, default=0.0)
    difference = abs(canary_difference(pipe) / pipe.calibration.canary.log_likelihood)
    state: State = "ok" if difference <= allowed else "failed"
    found = f"{difference:.1e} of {allowed:.0e} allowed; calibrated on {pipe.calibration.canary.backend}"
    name = f"{pipe.backend}: the canary's log-likelihood, relative"
    return Check(name, state, found, "" if state == "ok" else remedy)


def _on_host(backend: Backend, graphs: Mapping[str, Graph], name: str) -> Graph:
    """A graph that takes and gives numpy arrays."""

    def run(arrays: Arrays) -> dict[str, Any]:
        out = graphs[name]({key: backend.to_device(array) for key, array in arrays.items()})
        return {key: backend.to_host(array) for key, array in out.items()}

    return run


def _case(manifest: Manifest) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[Any]]:
    """Smooth random conditions, the image of each row, and noise."""
    model = manifest.model
    height, width = (side * model.size_multiple for side in SIDES_IN_MULTIPLES)
    condition = smooth_conditions(IMAGES, height // model.scale, width // model.scale)
    image = np.repeat(np.arange(IMAGES), SAMPLES)
    noise = []
    for j, channels in enumerate(model.noise_channels):
        cell = cell_side(model, f"decode_{j}")
        drawn = draw_noise(channels, j, 0, 0, height // cell, width // cell, np.arange(len(image)), seed=0)
        noise.append(np.float32(TEMPERATURE) * drawn)
    return condition, image, noise
