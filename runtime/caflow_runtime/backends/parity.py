"""Comparison of a backend with the CPU, for backends whose results are not known to be correct."""

from collections.abc import Iterator, Mapping

import numpy as np

from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.errors import BackendError
from caflow_runtime.flow import scan
from caflow_runtime.flow.scan import Array, Graph
from caflow_runtime.flow.selftest import Case, case, flow_errors, is_invertible, likelihood_error
from caflow_runtime.flow.tolerances import TOLERANCES, Tolerances


def check_parity(graphs: Graphs) -> None:
    """Compare a bundle's graphs with the results of ONNX Runtime on the CPU, on small artificial conditions.

    Samples must agree with those of the CPU, and so must the likelihoods of the CPU's samples. The tolerances depend on
    the bundle's precision. The properties that every flow has are checked as well (`selftest.flow_errors`).

    Raises:
        BackendError: if a result differs, with its name and error; or if the CPU cannot run the bundle.
    """
    manifest = graphs.manifest
    tolerances = TOLERANCES[manifest.precision]
    inputs = case(manifest.model)
    exact, tried = Graphs(graphs.folder, OnnxRuntimeCpu()).on_host(), graphs.on_host()
    levels = manifest.model.levels
    errors = list(_differences(exact, tried, levels, inputs, tolerances))
    flow = flow_errors(tried, levels, *inputs, is_invertible(manifest))
    errors += [(what, error, tolerances.flow[kind]) for kind, what, error in flow]
    for what, error, allowed in errors:
        worst = float(np.abs(error).max())
        if not worst <= allowed:  # so that NaN counts as an error
            raise BackendError(
                f"{graphs.backend.name} is not used, because its results differ from those of the CPU: {what}: "
                f"the error is {worst:.1e}, at most {allowed:.0e} is allowed",
                "use another --backend",
            )


def _differences(
    exact: Mapping[str, Graph], tried: Mapping[str, Graph], levels: int, inputs: Case, tolerances: Tolerances
) -> Iterator[tuple[str, Array, float]]:
    """Yield each compared result: its name, the differences, and the largest difference that is allowed."""
    condition, image, noise = inputs
    encoded, encoded_here = scan.encode(exact, condition), scan.encode(tried, condition)
    drawn = scan.sample(exact, levels, encoded, image, noise)
    here = scan.sample(tried, levels, encoded_here, image, noise)
    full_scale = max(256.0, float(np.abs(drawn.pixels).max()))
    yield "pixels, as a fraction of full scale", (here.pixels - drawn.pixels) / full_scale, tolerances.pixels
    error = likelihood_error(here.log_likelihood.sum(1), drawn.log_likelihood.sum(1), drawn.pixels)
    yield "log-likelihood of samples, relative", error, tolerances.log_likelihood
    scored = scan.score(exact, levels, encoded, image, drawn.pixels).log_likelihood.sum(1)
    scored_here = scan.score(tried, levels, encoded_here, image, drawn.pixels).log_likelihood.sum(1)
    error = likelihood_error(scored_here, scored, drawn.pixels)
    yield "log-likelihood of images, relative", error, tolerances.log_likelihood
