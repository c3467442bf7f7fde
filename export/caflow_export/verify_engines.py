"""Verification of a bundle on another backend, such as its engines on a GPU, against ONNX Runtime on the CPU.

The results of ONNX Runtime were compared with the model in float64 when the bundle was exported.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from caflow_export.measure import GroupedConvolutions, Measure
from caflow_runtime.backends.backend import Backend
from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle.manifest import Manifest, Measurement
from caflow_runtime.flow import level_chain
from caflow_runtime.flow.level_chain import Graph
from caflow_runtime.flow.selftest import ITEMS, Case, case, case_within, flow_errors, is_invertible, likelihood_error
from caflow_runtime.flow.tolerances import TOLERANCES

FLOW = "flow"


def verify_engines(folder: Path, backend: Backend) -> list[Measurement]:
    """Compare a bundle on a backend with ONNX Runtime on the CPU, and return all measurements.

    First each graph runs on the inputs that the CPU's chain computes. Then the whole chain runs, and properties of
    every flow are checked. One item also runs alone and at every batch size, because some engines are known to fail at
    certain batch sizes.

    Raises:
        VerificationFailed: at the first error that exceeds its tolerance. The message names the graph and the output.
    """
    built = Graphs(folder, backend)
    manifest, hosted = built.manifest, built.on_host()
    inputs = case_within(manifest.model, backend.profile)
    measure = Measure(backend.name)
    if manifest.precision != "bf16":  # ONNX Runtime has no bfloat16 convolutions on CPUs
        exact = Graphs(folder, OnnxRuntimeCpu()).on_host()
        _measure_graphs(exact, hosted, manifest, inputs, measure)
    _measure_flow(hosted, manifest, inputs, measure)
    _measure_batches(hosted, manifest, backend, inputs, measure)
    return measure.measured


def _measure_graphs(
    exact: Mapping[str, Graph], hosted: Mapping[str, Graph], manifest: Manifest, inputs: Case, measure: Measure
) -> None:
    tolerances, levels = TOLERANCES[manifest.precision], manifest.model.levels
    height, width = (side * manifest.model.scale for side in inputs[0].shape[1:3])
    size = f"{len(inputs[1])} × {height}×{width}"

    drawn = GroupedConvolutions(exact, hosted, measure, tolerances.graph, f", {size}").run(levels, *inputs)
    again = level_chain.sample(hosted, levels, level_chain.encode(hosted, inputs[0]), *inputs[1:])
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
    hosted: Mapping[str, Graph], manifest: Manifest, backend: Backend, inputs: Case, measure: Measure
) -> None:
    """Run copies of one item at every batch size. Compare the copies with each other, and with the item alone.

    The tolerance is larger for the item alone, because each batch size may use different kernels.
    """
    height, width = (side * manifest.model.scale for side in inputs[0].shape[1:3])
    condition, image, noise = case(manifest.model, 1, (height, width))
    levels, tolerances = manifest.model.levels, TOLERANCES[manifest.precision]
    encoded = level_chain.encode(hosted, condition)
    alone = level_chain.sample(hosted, levels, encoded, image, noise).pixels
    for items in range(2, 1 + (ITEMS if backend.profile is None else backend.profile.batch_size)):
        same = [np.repeat(z, items, 0) for z in noise]
        alike = level_chain.sample(hosted, levels, encoded, np.repeat(image, items), same).pixels
        measure(FLOW, f"{items} identical items, pixels", (alike - alike[:1]) / 256, tolerances.flow["items"])
        measure(FLOW, f"{items} items against one alone, pixels", (alike - alone) / 256, tolerances.pixels)
