"""Verification of a bundle on another backend, such as its engines on a GPU, against ONNX Runtime on the CPU.

The results of ONNX Runtime were compared with the model in float64 when the bundle was exported.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from caflow_export.measure import Measure
from caflow_export.side_by_side import SideBySide
from caflow_runtime.backends.backend import Backend
from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle.engine_sets import Profile
from caflow_runtime.bundle.manifest import Manifest, Measurement
from caflow_runtime.flow import scan
from caflow_runtime.flow.scan import Array, Graph
from caflow_runtime.flow.selftest import ROWS, Case, case, cases, flow_errors, is_invertible, likelihood_error
from caflow_runtime.flow.tolerances import TOLERANCES
from caflow_runtime.rows.device_run import GraphChain

FLOW = "flow"
REPEATS, RECORDED = 4, 2
"""Number of runs of each chain, and index of the first run that is always a replay, if the backend records chains."""


def verify_engines(folder: Path, backend: Backend, say: Callable[[str], None] | None = None) -> list[Measurement]:
    """Compare a bundle on a backend with ONNX Runtime on the CPU, and return all measurements.

    First each graph runs on the inputs that the CPU's chain computes. Then the whole chain runs, properties of every
    flow are checked, and the chain runs several times. One row also runs alone and at every batch size, because some
    engines are known to fail at certain batch sizes.

    Arguments:
        say: called with each line of the table of measurements.

    Raises:
        VerificationFailed: at the first error that exceeds its tolerance. The message names the graph and the output.
    """
    built = Graphs(folder, backend)
    manifest, hosted = built.manifest, built.on_host()
    inputs = cases(manifest.model, backend.profiles)
    measure = Measure(backend.name, say)
    if manifest.precision != "bf16":  # ONNX Runtime has no bfloat16 convolutions on CPUs
        exact = Graphs(folder, OnnxRuntimeCpu()).on_host()
        for one in inputs:
            _measure_graphs(exact, hosted, manifest, one, measure)
    _measure_flow(hosted, manifest, inputs[-1], measure)
    _measure_batches(hosted, manifest, backend.profiles, measure)
    _measure_repeats(built, hosted, measure)
    return measure.measured


def _measure_graphs(
    exact: Mapping[str, Graph], hosted: Mapping[str, Graph], manifest: Manifest, inputs: Case, measure: Measure
) -> None:
    tolerances, levels = TOLERANCES[manifest.precision], manifest.model.levels
    height, width = (side * manifest.model.scale for side in inputs[0].shape[1:3])
    size = f"{len(inputs[1])} × {height}×{width}"

    drawn = SideBySide(exact, hosted, measure, tolerances.graph, f", {size}").run(levels, *inputs)
    again = scan.sample(hosted, levels, scan.encode(hosted, inputs[0]), *inputs[1:])
    error = (again.pixels - drawn.pixels) / max(256.0, float(np.abs(drawn.pixels).max()))
    measure("sample", f"pixels, {size}, share of full scale", error, tolerances.pixels)
    measure("sample", f"pixels, {size}, root mean square", np.sqrt(np.square(error).mean()), tolerances.pixels_rms)
    error = likelihood_error(again.log_likelihood.sum(1), drawn.log_likelihood.sum(1), drawn.pixels)
    measure("sample", f"log-likelihood, {size}, relative", error, tolerances.log_likelihood)


def _measure_flow(hosted: Mapping[str, Graph], manifest: Manifest, inputs: Case, measure: Measure) -> None:
    if len(inputs[1]) < 2:
        return
    allowed = TOLERANCES[manifest.precision].flow
    for kind, what, error in flow_errors(hosted, manifest.model.levels, *inputs, is_invertible(manifest)):
        measure(FLOW, what, error, allowed[kind])


def _measure_batches(
    hosted: Mapping[str, Graph], manifest: Manifest, profiles: Sequence[Profile], measure: Measure
) -> None:
    """Run copies of one row at every batch size. Compare the copies with each other, and with the row alone.

    The tolerance is larger for the row alone, because each batch size may use different kernels.
    """
    condition, image, noise = case(manifest.model, 1, _sides(manifest, profiles))
    levels, tolerances = manifest.model.levels, TOLERANCES[manifest.precision]
    encoded = scan.encode(hosted, condition)
    alone = scan.sample(hosted, levels, encoded, image, noise).pixels
    for rows in range(2, 1 + max((profile.rows for profile in profiles), default=ROWS)):
        same = [np.repeat(z, rows, 0) for z in noise]
        alike = scan.sample(hosted, levels, encoded, np.repeat(image, rows), same).pixels
        measure(FLOW, f"{rows} identical rows, pixels", (alike - alike[:1]) / 256, tolerances.flow["rows"])
        measure(FLOW, f"{rows} rows against one alone, pixels", (alike - alone) / 256, tolerances.pixels)


def _measure_repeats(built: Graphs, hosted: Mapping[str, Graph], measure: Measure) -> None:
    """Run chains with different shapes and noise in turn, each several times, because backends may record chains.

    Each run is compared with the result of the graphs one by one. Runs of a recording are also compared with each
    other. The tolerance is larger for the first comparison, because a recording may use different kernels.
    """
    backend, model, chain = built.backend, built.manifest.model, GraphChain(built)
    tolerances = TOLERANCES[built.manifest.precision]
    most = max((profile.rows for profile in backend.profiles), default=ROWS)
    wanted: dict[tuple[int, int], Array] = {}
    first: dict[tuple[int, int], Array] = {}
    for repeat in range(REPEATS):
        for rows, sign in product(range(1, min(2, most) + 1), (1, -1)):
            condition, image, noise = case(model, rows, _sides(built.manifest, backend.profiles))
            z = [np.float32(sign) * one for one in noise]
            if repeat == 0:
                encoded = scan.encode(hosted, condition)
                wanted[rows, sign] = scan.sample(hosted, model.levels, encoded, image, z).pixels
            there = backend.to_device(condition), backend.to_device(image), [backend.to_device(one) for one in z]
            pixels = backend.to_host(chain.sample_at_once(*there).pixels)
            what = f"{rows} rows, noise × {sign}, run {repeat + 1}"
            error = (pixels - wanted[rows, sign]) / max(256.0, float(np.abs(wanted[rows, sign]).max()))
            measure(FLOW, f"{what}, pixels", error, tolerances.pixels)
            if repeat >= RECORDED:
                error = (pixels - first.setdefault((rows, sign), pixels)) / 256
                measure(FLOW, f"{what}, against run {RECORDED + 1}", error, tolerances.flow["rows"])


def _sides(manifest: Manifest, profiles: Sequence[Profile]) -> tuple[int, int]:
    """Return the height and width of the targets in the last case, in pixels."""
    height, width = cases(manifest.model, profiles)[-1][0].shape[1:3]
    return height * manifest.model.scale, width * manifest.model.scale
