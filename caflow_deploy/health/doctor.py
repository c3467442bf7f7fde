"""Checks of `caflow doctor`.

They show what is installed, which backends work, and whether a bundle computes correct results on this machine.
"""

import platform
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.backends.onnx_packages import installed_builds, is_installed
from caflow_runtime.backends.select import BackendName, open_backend
from caflow_runtime.batching.batch_size import BatchLimits
from caflow_runtime.bundle import manifest as bundle
from caflow_runtime.bundle import stored_checkpoint
from caflow_runtime.bundle.bundle_errors import BundleError, NoBundle
from caflow_runtime.bundle.reading import read_manifest, verify_files
from caflow_runtime.errors import BackendError, CaflowError, format_error
from caflow_runtime.flow.selftest import case_within, flow_errors, is_invertible
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.flow.tolerances import TOLERANCES
from caflow_runtime.ood.calibration import read_calibration, why_missing
from caflow_runtime.pipeline.canary import SIDE_IN_MULTIPLES, canary_difference
from caflow_runtime.pipeline.pipeline import Pipeline

State = Literal["ok", "absent", "failed"]
DEVICES: tuple[BackendName, ...] = ("cpu", "cuda")
OTHERS: tuple[BackendName, ...] = ("tensorrt", "tensorrt-rtx", "openvino")
EXTRAS = {"colorize": "scipy", "page": "gradio", "report": "matplotlib", "serve": "uvicorn", "video": "av"}
"""A package of each extra that commands require."""


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    name: str
    state: State
    """State of the checked item. "absent" means that an optional item is missing or was skipped."""
    found: str
    """Version, measured value or error."""
    remedy: str = ""
    """Advice for the user; empty if there is nothing to do."""


def check_environment() -> Iterator[Check]:
    """Check Python, the required packages, ONNX Runtime and the extras."""
    yield Check("python", "ok", platform.python_version())
    for package in ("caflow-deploy", "numpy"):
        yield Check(package, "ok", version(package))
    # Several packages provide OpenCV, so ask the module itself for its version.
    yield Check("opencv", "ok", cv2.__version__)
    builds = installed_builds()
    for device in DEVICES:
        try:
            open_backend(device, Path())
        except BackendError as error:
            is_wanted = device == "cpu" or "onnxruntime-gpu" in builds
            state: State = "failed" if is_wanted else "absent"
            yield Check(f"onnxruntime {device}", state, error.what, error.remedy)
        else:
            yield Check(f"onnxruntime {device}", "ok", f"{builds[0]} {version(builds[0])}")
    for extra, package in EXTRAS.items():
        if is_installed(package):
            yield Check(f"extra {extra}", "ok", f"{package} {version(package)}")
        else:
            remedy = f"pip install 'caflow-deploy[{extra}]'"
            yield Check(f"extra {extra}", "absent", f"{package} is not installed", remedy)


def check_bundle(folder: Path) -> Iterator[Check]:
    """Check the files of a bundle, and run the flow's self-tests on every installed backend."""
    try:
        manifest = read_manifest(folder)
        verify_files(folder, manifest)
    except (BundleError, OSError) as error:
        # The message about a missing bundle contains its own advice.
        remedy = "" if isinstance(error, NoBundle) else "copy or export the bundle again"
        yield Check("bundle", "failed", format_error(error), remedy)
        return
    size = sum(file.bytes for file in bundle.files_of(manifest)) / 2**20
    yield Check("bundle", "ok", f"{len(manifest.graphs)} graphs, {size:.1f} MiB, all files match the manifest")
    if (folder / stored_checkpoint.NAME).exists():
        yield _check_checkpoint(folder)
    exported = [m for m in manifest.verification if m.graph in ("sample", "score")]
    if exported:
        worst = max(exported, key=lambda m: m.max_error / m.tolerance)
        found = f"{worst.what}: {worst.max_error:.1e}, at most {worst.tolerance:.0e} allowed ({worst.verified_with})"
        yield Check(f"{manifest.precision} error at export", "ok", found)
    calibrated = _check_calibration(folder)
    yield calibrated
    for name in (*DEVICES, *OTHERS):
        try:
            backend = open_backend(name, folder)
        except BackendError as error:
            if name in OTHERS:
                yield Check(name, "absent", error.what, error.remedy)
            continue
        yield from _check_on(Graphs(folder, backend), calibrated.state == "ok")


def _check_checkpoint(folder: Path) -> Check:
    """Check the weights and settings from which the model can be exported or trained again."""
    try:
        stored, _ = stored_checkpoint.read_checkpoint(folder)
    except (stored_checkpoint.DamagedCheckpoint, OSError) as error:
        return Check("checkpoint", "failed", format_error(error))
    return Check("checkpoint", "ok", f"{len(stored.weights)} weights, as they were exported")


def _check_calibration(folder: Path) -> Check:
    try:
        found = read_calibration(folder)
    except BundleError as error:
        return Check("calibration", "failed", error.what, error.remedy)
    if found is None:
        return Check("calibration", "absent", *why_missing(folder))
    return Check("calibration", "ok", f"from {found.truth.images} crops of {found.photographs} photographs")


def _check_on(graphs: Graphs, is_calibrated: bool) -> Iterator[Check]:
    """Check the results of graphs, and close them."""
    name = graphs.backend.name
    remedy = (
        f"do not use this bundle on {name}; use another backend, or export with --precision fp32, and report the error"
    )
    try:
        with closing(graphs):
            yield from _check_results(graphs, is_calibrated, remedy)
    except (CaflowError, MemoryError) as error:
        yield Check(name, "failed", str(error), remedy)


def _check_results(graphs: Graphs, is_calibrated: bool, remedy: str) -> Iterator[Check]:
    manifest, backend = graphs.manifest, graphs.backend
    allowed = TOLERANCES[manifest.precision].flow
    if manifest.precision in backend.lacks:
        yield Check(backend.name, "absent", f"does not run networks in {manifest.precision}", "use --backend openvino")
        return
    if backend.builds_engines:
        found = "not checked, because the bundle has no finished engines; they are built when they are first needed"
        yield Check(backend.name, "absent", found, f"build them with caflow-export {graphs.folder} --trt")
        return
    inputs = case_within(manifest.model, backend.profile)
    if len(inputs[1]) == 1:
        yield Check(
            backend.name, "absent", "skipped: its engines run single items", "build them with larger --max-batch-size"
        )
        return
    for kind, what, error in flow_errors(graphs.on_host(), manifest.model.levels, *inputs, is_invertible(manifest)):
        worst = float(np.abs(error).max())
        state: State = "ok" if worst <= allowed[kind] else "failed"
        found = f"{worst:.1e}, at most {allowed[kind]:.0e} allowed"
        yield Check(f"{backend.name}: {what}", state, found, "" if state == "ok" else remedy)
    largest = BatchLimits(Tiling().pixel_budget, backend.profile).largest_sides
    if is_calibrated and (largest is None or min(largest) >= SIDE_IN_MULTIPLES * manifest.model.size_multiple):
        yield _check_canary(Pipeline(graphs, Tiling()), remedy)


def _check_canary(pipe: Pipeline, remedy: str) -> Check:
    """Compare the canary with its value at calibration. Either backend may deviate by the export tolerance."""
    allowed = 2 * TOLERANCES[pipe.manifest.precision].log_likelihood
    difference = abs(canary_difference(pipe) / pipe.calibration.canary.log_likelihood)
    state: State = "ok" if difference <= allowed else "failed"
    found = f"{difference:.1e}, at most {allowed:.0e} allowed; calibrated on {pipe.calibration.canary.backend}"
    name = f"{pipe.backend}: the canary's log-likelihood, relative"
    return Check(name, state, found, "" if state == "ok" else remedy)
