"""Figures in the pages of the documentation, generated from the files in benchmarks/results.

A page contains a figure, or a table of figures, between `<!-- figures: NAME -->` and `<!-- end -->`. `make docs` and
the tests fail if a figure differs from the results. `python docs/generate/figures.py` updates all figures.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

PAGES = ("README.md", "docs/**/*.md", "models/x4-*/README.md")
BLOCK = re.compile(r"(<!-- figures: ([\w.-]+) -->)(.*?)(<!-- end -->)", re.DOTALL)
H100_FLOPS = 989e12
"""Peak rate of an NVIDIA H100 in half precision, dense, in operations per second, from NVIDIA's data sheet."""
ASSUMED_SHARE, ASSUMED_PRICE = 0.1, 3.0
"""Assumed fraction of the peak rate that is reached, and price of an H100 in dollars per hour."""
CORE_PRICE = 0.04
"""Price of a CPU core in dollars per hour."""

Row = dict[str, Any]


def outdated(root: Path) -> list[str]:
    """Return one line for each figure that differs from the results or has an unknown name."""
    lines = []
    for page in pages(root):
        for _, name, text, _ in BLOCK.findall(page.read_text(encoding="utf-8")):
            if name not in FIGURES:
                lines.append(f"{page.relative_to(root)}: figures must be one of {', '.join(FIGURES)}; got {name}")
            elif text.strip() != FIGURES[name](root).strip():
                lines.append(f"{page.relative_to(root)}: {name} is outdated: run python docs/generate/figures.py")
    return lines


def write(root: Path) -> None:
    """Update all figures in all pages."""

    def current(block: re.Match[str]) -> str:
        text = FIGURES[block[2]](root)
        return f"{block[1]}\n\n{text}\n\n{block[4]}" if text.startswith("|") else f"{block[1]}{text}{block[4]}"

    for page in pages(root):
        before = page.read_text(encoding="utf-8")
        after = BLOCK.sub(current, before)
        if after != before:
            page.write_text(after, encoding="utf-8")


def pages(root: Path) -> list[Path]:
    """Return the pages that may contain figures."""
    return [page for pattern in PAGES for page in sorted(root.glob(pattern))]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def results(root: Path, name: str) -> Any:
    """Return the contents of a benchmark's results file."""
    return json.loads((root / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def quality(root: Path) -> str:
    """Return the table that compares x4-photo with other methods, on clean inputs. The best values are bold."""
    methods: list[tuple[str, str, float | None, int, str]] = [
        ("bicubic interpolation", "bicubic", None, 1, ""),
        ("DAT-light", "dat-light", None, 1, ""),
        ("SRMDNF", "srmdnf", None, 1, ""),
        ("Real-ESRGAN x4plus", "real-esrgan x4plus", None, 1, ""),
        ("**x4-photo**, temperature 0", "caflow x4-photo", 0.0, 1, ""),
        ("**x4-photo**, one sample, temperature 0.9", "caflow x4-photo", 0.9, 1, ""),
        ("**x4-photo**, likeliest of 10, temperature 0.9", "caflow x4-photo", 0.9, 10, "likelihood"),
    ]
    found = {
        (row["method"], row["temperature"], row["n"], row["rank"], row["size"]): row
        for row in results(root, "quality")["rows"]
        if row["degradation"] == "clean"
    }
    lines = []
    for label, method, temperature, n, rank in methods:
        small, large = (found[method, temperature, n, rank, size] for size in ("16-64", "64-256"))
        values = [f"{row[name]:{form}}" for row in (small, large) for name, form in COLUMNS]
        lines.append([label, *values, f"{large['seconds']:.2g}"])
    for column, best in ((1, max), (2, min), (4, max), (5, min)):
        value = best(line[column] for line in lines)
        for line in lines:
            line[column] = f"**{value}**" if line[column] == value else line[column]
    heading = ["", "16→64: PSNR", "LPIPS", "LR-PSNR", "64→256: PSNR", "LPIPS", "LR-PSNR", "seconds"]
    return table(heading, lines)


COLUMNS = [("psnr", ".2f"), ("lpips", ".3f"), ("lr_psnr", ".1f")]


def degraded(root: Path) -> str:
    """Return the table of LPIPS and PSNR of both ×4 models and other methods, on degraded inputs.

    Inputs are 64×64 and results 256×256. The lowest LPIPS of each input is bold.
    """
    methods = {
        "bicubic interpolation": "bicubic",
        "DAT-light": "dat-light",
        "Real-ESRGAN x4plus": "real-esrgan x4plus",
        "x4-photo": "caflow x4-photo",
        "**x4-real**": "caflow x4-real",
    }
    inputs = {
        "clean": "clean",
        "jpeg90": "JPEG, quality 90",
        "jpeg75": "JPEG, quality 75",
        "jpeg30": "JPEG, quality 30",
        "noise5": "noise, σ = 5",
        "noise5-jpeg75": "noise, then JPEG 75",
        "blur3": "blur, σ = 3",
        "h264-crf28": "H.264, CRF 28",
    }
    found = {
        (row["method"], row["degradation"]): row
        for row in results(root, "quality-degraded")["rows"]
        if not row["rank"] and row["temperature"] != 0
    }
    lines = []
    for degradation, label in inputs.items():
        of_all = [found[method, degradation] for method in methods.values()]
        least = min(row["lpips"] for row in of_all)
        marks = ["**" if row["lpips"] == least else "" for row in of_all]
        pairs = zip(marks, of_all, strict=True)
        lines.append([label, *(f"{mark}{row['lpips']:.3f}{mark} ({row['psnr']:.1f})" for mark, row in pairs)])
    return table(["input", *methods], lines)


def detection(root: Path) -> str:
    """Return the table of how well altered images are distinguished from true images.

    The true images are the photographs that were kept for the last evaluation.
    """
    rows = [
        [row["against"], f"{row['typical']:.3f}", f"{row['likelihood']:.3f}", percent(row["rejected at 0.05"])]
        for row in results(root, "filter-last")["rows"]
    ]
    return table(["images", "AUROC of typicality", "AUROC of likelihood", "rejected at α = 0.05"], rows)


def rejected(alpha: str, root: Path) -> str:
    """Return the percentage of true images that is rejected by mistake at α."""
    return percent(results(root, "filter-last")["false_rejection"][alpha]["rate"])


def percent(share: float) -> str:
    """Return a fraction as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


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


def video(root: Path) -> str:
    """Return the table of quality and flicker of videos, as means over clips of 60 frames."""
    names = {
        "bicubic": "bicubic interpolation",
        "τ = 0": "temperature 0",
        "fixed": "`--noise fixed`",
        "ar1:0.9": "`--noise ar1:0.9`",
        "fresh": "`--noise fresh`",
    }
    rows = [
        [names[row["method"]], *(shown(row[name], form) for name, form in VIDEO_COLUMNS)]
        for row in results(root, "video")["rows"]
        if row["clip"] == "mean" and row["frames"] == 60 and row["method"] in names
    ]
    return table(["", "PSNR, dB", "LPIPS", "flicker where nothing moves", "flicker where it moves"], rows)


VIDEO_COLUMNS = [("psnr", ".2f"), ("lpips", ".3f"), ("flicker static", ".2f"), ("flicker moving", ".2f")]


def video_rate(root: Path) -> str:
    """Return the frames per second on an otherwise idle machine, as a mean over all clips."""
    (rate,) = (
        row["frames/s"]
        for row in results(root, "video-rates")["rows"]
        if (row["clip"], row["frames"], row["method"]) == ("mean", 4, "fixed")
    )
    return f"{rate:.1f}"


def shown(value: float | None, form: str) -> str:
    """Return a formatted number, or an empty text for None."""
    return "" if value is None else format(value, form)


def hardware(root: Path) -> str:
    """Return the table of backends and precisions on a CPU."""
    rows = [
        [named(row["way"]), *(f"{row[name]:.2f}" for name in HARDWARE_COLUMNS)]
        for row in results(root, "hardware")["rows"]
    ]
    return table(["", "speed-up, one sample", "speed-up, ten samples", "RMS difference, grey levels"], rows)


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


PYTHON_SECONDS, PYTHON_MEMORY = "Python's s", "Python's MB"


def workers(root: Path) -> str:
    """Return the table of images per second of one process and of several workers."""
    rows = [
        [row["run"], f"{row['start, s']:.1f}", f"{row['images/s']:.1f}", f"{row['× the loop']:.2f}"]
        for row in results(root, "batch")["rows"]
    ]
    return table(["", "until the first result, s", "images/s", "relative to one process"], rows)


def serving(root: Path) -> str:
    """Return the table of requests per second and latencies of servers."""
    rows = [
        [row["way"], f"{row['requests/s']:.1f}", f"{1000 * row['p50 s']:.0f}", f"{1000 * row['p95 s']:.0f}"]
        for row in results(root, "serving")["rows"]
    ]
    return table(["", "requests/s", "median, ms", "95th percentile, ms"], rows)


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


def largest_outliers(root: Path) -> str:
    """Return the largest difference between the means of a block in a sample and in the enlarged input.

    The differences are in grey levels, one for each of the temperatures 0.8, 0.9 and 1.
    """
    return ", ".join(f"{row['largest']:.0f}" for row in results(root, "outliers")["rows"])


def largest_outlier_of_the_truth(root: Path) -> str:
    """Return the largest difference between the means of a block in a true image and in the enlarged input."""
    return f"{results(root, 'outliers')['rows'][0]['largest of the truth']:.0f}"


def thousands(value: float) -> str:
    """Return a number with three significant digits and with thousands separators."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


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


FIGURES: dict[str, Callable[[Path], str]] = {
    "quality": quality,
    "degraded": degraded,
    "detection": detection,
    "rejected-at-0.01": lambda root: rejected("0.01", root),
    "rejected-at-0.05": lambda root: rejected("0.05", root),
    "rejected-at-0.1": lambda root: rejected("0.1", root),
    "memory": memory,
    "video": video,
    "video-rate": video_rate,
    "hardware": hardware,
    "cpp": cpp,
    "workers": workers,
    "serving": serving,
    "machines": machines,
    "outliers": largest_outliers,
    "outliers-of-the-truth": largest_outlier_of_the_truth,
    "gigaflop": gigaflop,
    "gpu-estimate": gpu_estimate,
}
"""Function that returns a figure, by the name of the figure. Its argument is the repository's folder."""

if __name__ == "__main__":
    write(Path(__file__).parents[2])
