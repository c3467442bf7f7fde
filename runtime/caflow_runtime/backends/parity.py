"""Comparison of a backend with the CPU when a bundle is opened on it for the first time. The result is remembered."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress

import numpy as np

from caflow_runtime.backends.cache_folders import user_cache
from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.backends.onnx_packages import installed_builds
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import BackendError
from caflow_runtime.file_io.atomic_files import write_atomically
from caflow_runtime.flow import level_chain
from caflow_runtime.flow.level_chain import Array, Graph
from caflow_runtime.flow.selftest import Case, case_within, flow_errors, is_invertible, likelihood_error
from caflow_runtime.flow.tolerances import TOLERANCES, Tolerances

FOLDER = "parity"


def check_once(graphs: Graphs) -> None:
    """Compare a bundle's graphs with the CPU as `check_parity` does, unless this backend has passed before.

    The backend must have been the same, with the same versions, device and engines. What has passed is kept in the
    user's cache folder. A failure is not remembered.

    Raises:
        BackendError: if a result differs, with its name and error.
    """
    if graphs.backend.is_reference:
        return
    checked = {"manifest": sha256_of(graphs.folder / MANIFEST), "backend": graphs.backend.name}
    text = json.dumps(checked | dict(graphs.backend.identity), indent=2, sort_keys=True)
    passed = user_cache() / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    if passed.is_file():
        return
    check_parity(graphs)
    with suppress(OSError):  # without a cache folder, it is checked again next time
        passed.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(passed, text.encode())


def check_parity(graphs: Graphs) -> None:
    """Compare a bundle's graphs with the results of ONNX Runtime on the CPU, on small artificial conditions.

    Samples must agree with those of the CPU, and so must the likelihoods of the CPU's samples. The tolerances depend on
    the bundle's precision. The properties that every flow has are checked as well (`selftest.flow_errors`). They are
    all that is checked where the CPU cannot run the bundle.

    Raises:
        BackendError: if a result differs, with its name and error.
    """
    manifest = graphs.manifest
    tolerances = TOLERANCES[manifest.precision]
    inputs = case_within(manifest.model, graphs.backend.profile)
    tried, levels = graphs.on_host(), manifest.model.levels
    errors: list[tuple[str, Array, float]] = []
    if installed_builds() and manifest.precision not in OnnxRuntimeCpu.lacks:
        exact = Graphs(graphs.folder, OnnxRuntimeCpu()).on_host()
        errors += _differences(exact, tried, levels, inputs, tolerances)
    if len(inputs[1]) > 1:  # engines may be for single items
        flow = flow_errors(tried, levels, *inputs, is_invertible(manifest))
        errors += [(what, error, tolerances.flow[kind]) for kind, what, error in flow]
    for what, error, allowed in errors:
        worst = float(np.abs(error).max())
        if not worst <= allowed:  # so that NaN counts as an error
            raise BackendError(
                f"{graphs.backend.name} is not used, because its results differ from those of the CPU: {what}: "
                f"the error is {worst:.1e}, at most {allowed:.0e} is allowed",
                "use another `backend`",
            )


def _differences(
    exact: Mapping[str, Graph], tried: Mapping[str, Graph], levels: int, inputs: Case, tolerances: Tolerances
) -> Iterator[tuple[str, Array, float]]:
    """Yield each compared result: its name, the differences, and the largest difference that is allowed."""
    condition, image, noise = inputs
    encoded, encoded_here = level_chain.encode(exact, condition), level_chain.encode(tried, condition)
    drawn = level_chain.sample(exact, levels, encoded, image, noise)
    here = level_chain.sample(tried, levels, encoded_here, image, noise)
    full_scale = max(256.0, float(np.abs(drawn.pixels).max()))
    yield "pixels, as a fraction of full scale", (here.pixels - drawn.pixels) / full_scale, tolerances.pixels
    error = likelihood_error(here.log_likelihood.sum(1), drawn.log_likelihood.sum(1), drawn.pixels)
    yield "log-likelihood of samples, relative", error, tolerances.log_likelihood
    scored = level_chain.score(exact, levels, encoded, image, drawn.pixels).log_likelihood.sum(1)
    scored_here = level_chain.score(tried, levels, encoded_here, image, drawn.pixels).log_likelihood.sum(1)
    error = likelihood_error(scored_here, scored, drawn.pixels)
    yield "log-likelihood of images, relative", error, tolerances.log_likelihood
