"""Figures of time, memory and money."""

import json
from pathlib import Path

from tables import results, table, thousands

H100_FLOPS = 989e12
"""Peak rate of an NVIDIA H100 in half precision, dense, in operations per second, from NVIDIA's data sheet."""
ASSUMED_SHARE, ASSUMED_PRICE = 0.1, 3.0
"""Assumed fraction of the peak rate that is reached, and price of an H100 in dollars per hour."""
PYTHON_SECONDS, PYTHON_MEMORY = "Python's s", "Python's MB"
CORE_PRICE = 0.04
"""Price of a CPU core in dollars per hour."""


def memory(root: Path) -> str:
    """Return the table of predicted and measured memory, by image size."""
    rows = [
        [
            row["input"],
            row["result"],
            row["windows"],
            f"{row['predicted MB']:.0f}",
            f"{row['peak MB']:.0f}",
            f"{row['predicted / peak']:.2f}",
            f"{row['predicted s / s']:.2f}" if row["predicted s / s"] else "",
        ]
        for row in results(root, "memory")["rows"]
    ]
    heading = ["input", "result", "tiles", "predicted, MB", "peak, MB", "predicted / peak", "predicted / real time"]
    return table(heading, rows)


def rate_of(model: str, root: Path) -> str:
    """Return the frames of 640×360 pixels that a model makes per second, with the better batch size."""
    rates = [row["frames/s"] for row in results(root, "video-coded")["rates"] if row["method"] == model]
    return f"{max(rates):.1f}"


def hardware(root: Path) -> str:
    """Return the table of backends and precisions on a CPU."""
    rows = [
        [named(row["way"]), *(f"{row[name]:.2f}" for name in HARDWARE_COLUMNS)]
        for row in results(root, "hardware")["rows"]
    ]
    return table(["backend", "speed-up, one sample", "speed-up, ten samples", "RMS difference, grey levels"], rows)


def floors(name: str, root: Path) -> str:
    """Return the table of the floors of a model's graphs, and of the times in each runtime relative to them."""
    found = results(root, name)["rows"]
    ways = [way for way in found[0] if way not in FLOOR_COLUMNS]
    rows = [
        [
            f"`{row['graph']}`" if row["graph"] != "all" else "all",
            row["n"],
            f"{row['GFLOP']:.3g}",
            f"{1e3 * row['floor, s']:.3g}",
            f"{row['GFLOP/s']:.0f}",
            *(f"{row[way]:.2f}" for way in ways),
        ]
        for row in found
    ]
    return table(["graph", "samples", "GFLOP", "floor, ms", "GFLOP/s", *map(named, ways)], rows)


FLOOR_COLUMNS = ("graph", "n", "GFLOP", "floor, s", "GFLOP/s")


def gain(name: str, dtype: str, root: Path) -> float:
    """Return how many times as fast a model in ONNX Runtime would be if it took the time of its floor.

    Arguments:
        name: results file. The largest number of samples counts.
        dtype: precision of the floor: "fp32" or "bf16".
    """
    of_all = results(root, name)["rows"][-1]
    return float(of_all[ORT] / (of_all["floor bf16"] if dtype == "bf16" else 1))


ORT = "onnxruntime cpu fp32"


def rates(root: Path) -> str:
    """Return the table of the rates of the fastest convolution and of a matrix product, in GFLOP/s."""
    found = results(root, "floors")["rates"]
    rows = [[name, f"{of['fp32']:.0f}", f"{of['bf16']:.0f}"] for name, of in found.items()]
    return table(["GFLOP/s", "fp32", "bf16"], rows)


HARDWARE_COLUMNS = ("×, n = 1", "×, n = 10", "RMS error")


def named(way: str) -> str:
    """Return a backend and a precision with the names that people use."""
    return way.replace("onnxruntime cpu", "ONNX Runtime").replace("openvino cpu", "OpenVINO")


def cpp(root: Path) -> str:
    """Return the table that compares the C++ runtime with the Python runtime, with one thread."""
    rows = [
        [
            f"{row['side']}×{row['side']}",
            row["n"],
            f"{row['cold start s']:.2f}",
            f"{row[PYTHON_SECONDS]:.2f}",
            f"{row['peak MB']:.0f}",
            f"{row[PYTHON_MEMORY]:.0f}",
        ]
        for row in results(root, "cpp")["rows"]
        if row["threads"] == 1
    ]
    return table(["result", "samples", "C++: start to result, s", "Python: s", "C++: peak, MB", "Python: MB"], rows)


def workers(root: Path) -> str:
    """Return the table of images per second of one process and of several workers."""
    rows = [
        [row["run"], f"{row['start, s']:.1f}", f"{row['images/s']:.1f}", f"{row['× the loop']:.2f}"]
        for row in results(root, "batch")["rows"]
    ]
    return table(["processes", "until the first result, s", "images/s", "relative to one process"], rows)


def serving(root: Path) -> str:
    """Return the table of requests per second and latencies of servers."""
    rows = [
        [row["way"], f"{row['requests/s']:.1f}", f"{1000 * row['p50 s']:.0f}", f"{1000 * row['p95 s']:.0f}"]
        for row in results(root, "serving")["rows"]
    ]
    return table(["server", "requests/s", "median, ms", "95th percentile, ms"], rows)


def machines(root: Path) -> str:
    """Return the table of the speed of one CPU core, and of the cost of a million images."""
    rows = [
        [
            row["result"],
            row["n"],
            f"{row['s']:.3g}",
            thousands(row["images/hour"]),
            thousands(1e6 * row["s"] / 3600),
            f"${thousands(1e6 * row['s'] / 3600 * CORE_PRICE)}",
        ]
        for row in results(root, "machines")["rows"]
    ]
    heading = ["result", "samples", "seconds", "images/hour", "core-hours for a million", f"at ${CORE_PRICE} an hour"]
    return table(heading, rows)


def operations(root: Path) -> tuple[float, float]:
    """Return the operations of x4-photo per pixel of the result: those once per image, and those of each sample."""
    manifest = json.loads((root / "models" / "x4-photo.caflow" / "manifest.json").read_text(encoding="utf-8"))
    counted = {graph["name"]: graph["operations_per_pixel"] for graph in manifest["graphs"]}
    return counted["encode"], sum(value for name, value in counted.items() if name.startswith(("decode", "reverse")))


def gigaflop(root: Path) -> str:
    """Return the GFLOP of a result of 64×64 pixels, as a formula of the number of samples N."""
    once, each = (value * 64**2 / 1e9 for value in operations(root))
    return f"{once:.2f} + {each:.2f} · N"


def gpu_estimate(root: Path) -> str:
    """Return the table of the estimated speed and cost of an H100, with results of 1024×1024 pixels."""
    once, each = operations(root)
    rows = []
    for n in (1, 4, 10, 32):
        count = (once + n * each) * 1024**2
        rate = ASSUMED_SHARE * H100_FLOPS / count
        hours = 1e6 / rate / 3600
        rows.append([n, thousands(count / 1e9), thousands(rate), f"{hours:.1f}", f"${hours * ASSUMED_PRICE:.2f}"])
    return table(["samples", "GFLOP", "images/s", "GPU-hours for a million", f"at ${ASSUMED_PRICE:.0f} an hour"], rows)
