"""Whether a backend that is not known to compute right does so with a bundle."""

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
    """Compare a bundle's graphs with those of ONNX Runtime on the CPU, on small made-up conditions.

    Samples, and the scores of the CPU's samples, must be the CPU's within the tolerances of the bundle's precision, and
    what holds of any flow must hold.

    Raises:
        BackendError: naming what differs, and by how much; or if the CPU cannot run the bundle.
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
        if not worst <= allowed:  # NaN is not
            raise BackendError(
                f"{graphs.backend.name} computes something else than the CPU, so it is not used: {what}: "
                f"{worst:.1e} where {allowed:.0e} is allowed",
                "give another --backend",
            )


def _differences(
    exact: Mapping[str, Graph], tried: Mapping[str, Graph], levels: int, inputs: Case, tolerances: Tolerances
) -> Iterator[tuple[str, Array, float]]:
    """What is compared, by how much it differs, and what is allowed."""
    condition, image, noise = inputs
    encoded, encoded_here = scan.encode(exact, condition), scan.encode(tried, condition)
    drawn = scan.sample(exact, levels, encoded, image, noise)
    here = scan.sample(tried, levels, encoded_here, image, noise)
    full_scale = max(256.0, float(np.abs(drawn.pixels).max()))
    yield "pixels, share of full scale", (here.pixels - drawn.pixels) / full_scale, tolerances.pixels
    error = likelihood_error(here.log_likelihood.sum(1), drawn.log_likelihood.sum(1), drawn.pixels)
    yield "log-likelihood of samples, relative", error, tolerances.log_likelihood
    scored = scan.score(exact, levels, encoded, image, drawn.pixels).log_likelihood.sum(1)
    scored_here = scan.score(tried, levels, encoded_here, image, drawn.pixels).log_likelihood.sum(1)
    error = likelihood_error(scored_here, scored, drawn.pixels)
    yield "log-likelihood of images, relative", error, tolerances.log_likelihood
