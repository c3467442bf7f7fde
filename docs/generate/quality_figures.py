"""Figures of how good results are and of what the judge detects."""

from pathlib import Path
from typing import Any

from tables import percent, results, shown, table


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
    heading = [
        "method",
        *(f"{sizes}: {name}" for sizes in ("16→64", "64→256") for name in ("PSNR", "LPIPS", "LR-PSNR")),
        "seconds",
    ]
    return table(heading, lines)


COLUMNS = [("psnr", ".2f"), ("lpips", ".3f"), ("lr_psnr", ".1f")]


def degraded(root: Path) -> str:
    """Return the table of LPIPS and PSNR of both ×4 models and other methods, on degraded inputs.

    Inputs are 64×64 and results 256×256. The lowest LPIPS of each input is bold. The last columns have the differences
    of x4-real from Real-ESRGAN.
    """
    methods = {
        "bicubic interpolation": "bicubic",
        "DAT-light": "dat-light",
        "Real-ESRGAN x4plus": "real-esrgan x4plus",
        "x4-photo": "caflow x4-photo",
        "**x4-real**": "caflow x4-real",
    }
    found = {
        (row["method"], row["degradation"]): row
        for row in results(root, "quality-degraded")["rows"]
        if not row["rank"] and row["temperature"] != 0
    }
    lines = []
    for degradation, label in INPUTS.items():
        of_all = [found[method, degradation] for method in methods.values()]
        least = min(row["lpips"] for row in of_all)
        marks = ["**" if row["lpips"] == least else "" for row in of_all]
        pairs = zip(marks, of_all, strict=True)
        values = [f"{mark}{row['lpips']:.3f}{mark} ({row['psnr']:.1f})" for mark, row in pairs]
        gains = [
            f"{of_all[-1][f'{name} difference']:+{form}} ± {of_all[-1][f'{name} ±']:{form}}" for name, form in GAINS
        ]
        lines.append([label, *values, *(gain.replace("-", "−") for gain in gains)])
    return table(["input", *methods, "difference: LPIPS", "difference: PSNR"], lines)


GAINS = [("lpips", ".3f"), ("psnr", ".2f")]


INPUTS = {
    "clean": "clean",
    "jpeg90": "JPEG, quality 90",
    "jpeg75": "JPEG, quality 75",
    "jpeg30": "JPEG, quality 30",
    "noise5": "noise, σ = 5",
    "noise5-jpeg75": "noise, then JPEG 75",
    "blur3": "blur, σ = 3",
    "h264-crf28": "H.264, CRF 28",
}
"""Names of the degradations of the evaluation, as the pages show them."""


def known_degradations(root: Path) -> str:
    """Return the table of LPIPS and PSNR with estimated and true degradations and with none, and their differences."""
    lines = []
    for row in results(root, "known-degradations")["rows"]:
        values = [f"{row[f'lpips, {way}']:.3f} ({row[f'psnr, {way}']:.1f})" for way in ("estimated", "true", "none")]
        for pair in ("true − none", "true − estimated"):
            values += [
                f"{row[f'{metric}, {pair}']:+{form}} ± {row[f'{metric}, {pair} ±']:{form}}" for metric, form in GAINS
            ]
        lines.append([INPUTS[row["degradation"]], *(value.replace("-", "−") for value in values)])
    heading = ["input", "estimated", "true", "none"]
    heading += [f"{pair}: {name}" for pair in ("true − none", "true − estimated") for name in ("LPIPS", "PSNR")]
    return table(heading, lines)


def estimated_degradations(root: Path) -> str:
    """Return the table of estimated degradations: means, standard deviations, and the fraction of right kinds."""
    rows = [
        [
            INPUTS[row["degradation"]],
            *(f"{row[f'{kind}, mean']:.{digits}f} ± {row[f'{kind} ±']:.{digits}f}" for kind, digits in ESTIMATES),
            percent(row["kinds right"]),
        ]
        for row in results(root, "known-degradations")["estimates"]
    ]
    return table(["input", "σ of blur", "σ of noise", "JPEG quality", "CRF", "kinds right"], rows)


ESTIMATES = [("blur", 2), ("noise", 1), ("jpeg", 0), ("video", 0)]


def passes(root: Path) -> str:
    """Return the table of one pass and of two passes, by factor: LPIPS, PSNR in dB and seconds of x4-photo."""
    methods = {"bicubic": ("lpips",), "one pass, Lanczos": PASSES_COLUMNS, "two passes": PASSES_COLUMNS}
    found = {
        (row["factor"], row["method"]): row
        for row in results(root, "passes")["rows"]
        if row["model"] == "x4-photo" and row["method"] in methods
    }
    columns = [(method, name) for method, names in methods.items() for name in names]
    lines = [
        [f"×{factor:g}", *(f"{found[factor, method][name]:{PASSES_FORMS[name]}}" for method, name in columns)]
        for factor in dict.fromkeys(factor for factor, _ in found)
    ]
    heading = ["factor", "bicubic: LPIPS"]
    heading += [f"{method}: {name}" for method in ("one pass", "two passes") for name in ("LPIPS", "PSNR", "seconds")]
    return table(heading, lines)


PASSES_COLUMNS = ("lpips", "psnr", "seconds")
PASSES_FORMS = {"lpips": ".3f", "psnr": ".2f", "seconds": ".2g"}


def detection(name: str, root: Path) -> str:
    """Return the table of how well altered images are distinguished from true images, from the results `name`."""
    rows = [
        [row["against"], f"{row['typical']:.3f}", f"{row['likelihood']:.3f}", percent(row["rejected at 0.05"])]
        for row in results(root, name)["rows"]
    ]
    return table(["images", "AUROC of typicality", "AUROC of likelihood", "rejected at α = 0.05"], rows)


def rejected(name: str, alpha: str, root: Path) -> str:
    """Return the percentage of true images that is rejected by mistake at α, from the results `name`."""
    return percent(results(root, name)["false_rejection"][alpha]["rate"])


def coverage(root: Path) -> str:
    """Return the table of the percentage of blocks whose true mean lies within the range of the samples."""
    rows = [
        [INPUTS[row["degradation"]], *(f"{100 * row[side]:.0f} ± {100 * row[f'{side} ±']:.0f}" for side in BLOCKS)]
        for row in results(root, "coverage")["rows"]
    ]
    return table(["input", *BLOCKS.values()], rows)


BLOCKS = {f"side {side}": f"{side}×{side}, %" for side in (4, 16, 64)}


def video(root: Path) -> str:
    """Return the table of quality and flicker of videos, as means over clips of 60 frames."""
    names = {
        "bicubic": "bicubic interpolation",
        "x4-photo, τ = 0": "temperature 0",
        "x4-photo, fixed": "`--noise fixed`",
        "x4-photo, ar1:0.9": "`--noise ar1:0.9`",
        "x4-photo, fresh": "`--noise fresh`",
    }
    rows = [
        [names[row["method"]], *(shown(row[name], form) for name, form in VIDEO_COLUMNS)]
        for row in results(root, "video")["rows"]
        if row["clip"] == "mean" and row["frames"] == 60 and row["method"] in names
    ]
    return table(["method", "PSNR, dB", "LPIPS", "flicker where nothing moves", "flicker where it moves"], rows)


def video_coded(root: Path) -> str:
    """Return the table of quality and flicker of coded videos at ×2, by x2-video and other methods.

    The slowest method restored five frames of each clip, so the means are over the first five frames.
    """
    names = {
        "bicubic": "bicubic interpolation",
        "lanczos": "Lanczos interpolation",
        "realesr-animevideov3": "realesr-animevideov3",
        "srmdnf": "SRMDNF",
        "dat-light": "DAT-light",
        "x2-video, τ = 0": "**x2-video**, temperature 0",
        "x2-video, fixed": "**x2-video**, temperature 0.8",
    }
    of_all = [
        row
        for row in results(root, "video-coded")["rows"]
        if row["scale"] == 2 and row["clip"] == "mean" and row["method"] in names
    ]
    fewest = min(row["frames"] for row in of_all)
    rows = [
        [row["crf"], names[row["method"]], *(shown(row[name], form) for name, form in VIDEO_COLUMNS)]
        for row in of_all
        if row["frames"] == fewest
    ]
    return table(["CRF", "method", "PSNR, dB", "LPIPS", "flicker where nothing moves", "where it moves"], rows)


VIDEO_COLUMNS = [("psnr", ".2f"), ("lpips", ".3f"), ("flicker static", ".2f"), ("flicker moving", ".2f")]


def study(root: Path) -> str:
    """Return the table of the study of configurations, for seed 0."""
    rows = [row for row in results(root, "study")["rows"] if row["seed"] == 0]
    lines = [[row["variant"], *(f"{row[column]:{form}}" for column, form in STUDY_COLUMNS)] for row in rows]
    heading = ["variant", "M parameters", "k operations, image", "sample", "bits/dim", "PSNR, τ = 0"]
    samples = ["LPIPS, τ = 0.9", "PSNR, τ = 0.9", "LPIPS, τ = 1", "PSNR, τ = 1", "LR-PSNR, τ = 1"]
    return table([*heading, *samples], lines)


def study_seeds(root: Path) -> str:
    """Return the table of differences from the base, its first variant, between runs with the same seed.

    Values are means over the seeds, and half the range.
    """
    by_variant: dict[str, dict[int, dict[str, Any]]] = {}
    for row in results(root, "study")["rows"]:
        by_variant.setdefault(row["variant"], {})[row["seed"]] = row
    (_, base), *others = by_variant.items()
    lines = []
    for name, seeds in others:
        pairs = [(row, base[seed]) for seed, row in seeds.items() if seed in base]
        if len(pairs) > 1:
            differences = [
                ([row[column] - beside[column] for row, beside in pairs], form) for column, form in STUDY_COLUMNS[3:]
            ]
            values = [f"{sum(d) / len(d):+{form}} ± {(max(d) - min(d)) / 2:{form}}" for d, form in differences]
            lines.append([name, str(len(pairs)), *(value.replace("-", "−") for value in values)])
    heading = ["variant", "seeds", "bits/dim", "PSNR, τ = 0", "LPIPS, τ = 0.9", "PSNR, τ = 0.9", "LPIPS, τ = 1"]
    return table([*heading, "PSNR, τ = 1", "LR-PSNR, τ = 1"], lines)


STUDY_COLUMNS = [
    ("M parameters", ".1f"),
    ("k operations, image", ".0f"),
    ("k operations, sample", ".0f"),
    ("bits/dim", ".3f"),
    ("PSNR 0.0", ".2f"),
    ("LPIPS 0.9", ".3f"),
    ("PSNR 0.9", ".2f"),
    ("LPIPS 1.0", ".3f"),
    ("PSNR 1.0", ".2f"),
    ("LR-PSNR 1.0", ".1f"),
]


def largest_outliers(root: Path) -> str:
    """Return the largest difference between the means of a block in a sample and in the enlarged input.

    The differences are in grey levels, one for each of the temperatures 0.8, 0.9 and 1.
    """
    return ", ".join(f"{row['largest']:.0f}" for row in results(root, "outliers")["rows"])


def largest_outlier_of_the_truth(root: Path) -> str:
    """Return the largest difference between the means of a block in a true image and in the enlarged input."""
    return f"{results(root, 'outliers')['rows'][0]['largest of the truth']:.0f}"
