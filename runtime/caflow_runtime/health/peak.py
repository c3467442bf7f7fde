"""Peak speed of a device, measured as products of large matrices on the backend that runs the graphs."""

import statistics
import time
from importlib.resources import as_file, files

import numpy as np

from caflow_runtime.backends.backend import Backend

SIDE = 4096
"""Side of the square matrices; the ONNX graphs in this folder use this size, too."""
ABOUT_S, MAX_IN_A_ROW, ROUNDS = 0.1, 32, 3
SHORTEST_S = 1e-6


def peak_gflop_per_s(backend: Backend, precision: str) -> float:
    """Return the peak speed for networks of a precision, in 10⁹ multiplications and additions per second.

    The matrices are float16 for fp16 and bf16, and float32 for fp32 and int8.
    """
    kind = "fp16" if precision in ("fp16", "bf16") else "fp32"
    with as_file(files("caflow_runtime.health").joinpath(f"product-{kind}.onnx")) as path:
        run = backend.load(path)
    random = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32)
    matrix = backend.to_device(random.astype(np.float32 if kind == "fp32" else np.float16))

    def seconds(products: int) -> float:
        started = time.perf_counter()
        for _ in range(products):
            product = run({"a": matrix, "b": matrix})["product"]
        backend.to_host(backend.take(product, np.arange(1)))  # The last product is ready only after all others.
        return time.perf_counter() - started

    seconds(1)
    once = seconds(1)
    if once > ABOUT_S:  # Slow device: the transfer to the host is negligible.
        return 2 * SIDE**3 / once / 1e9
    more = min(MAX_IN_A_ROW, int(ABOUT_S / once))
    # Take a difference, since on a large GPU the transfer to the host takes longer than a product.
    took = [seconds(1 + more) - seconds(1) for _ in range(ROUNDS)]
    return more * 2 * SIDE**3 / max(SHORTEST_S, statistics.median(took)) / 1e9
