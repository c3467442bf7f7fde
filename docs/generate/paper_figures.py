"""Figures of the comparison of families of conditional flows on the paper's three tasks."""

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from statistics import mean, stdev

from tables import Row, results, shown, table

Column = tuple[str, str, str]
"""Heading, name in the results, and format."""

T = 4.303
"""Factor of an interval of 95 % from three seeds: a quantile of Student's t with two degrees of freedom."""
REFERENCE = "CAFLOW"
COLUMNS: dict[str, list[Column]] = {
    "super-resolution": [
        ("LPIPS", "LPIPS, mean", ".3f"),
        ("RMSE", "RMSE, mean", ".2f"),
        ("LR-PSNR", "LR-PSNR, mean", ".1f"),
    ],
    "colorization": [
        ("ab RMSE", "ab RMSE, mean", ".2f"),
        ("LPIPS", "LPIPS, mean", ".3f"),
        ("Fréchet, one", "Fréchet, one", ".1f"),
        ("Fréchet, likeliest", "Fréchet, likeliest", ".1f"),
    ],
    "inpainting": [("PSNR", "PSNR, mean", ".2f"), ("LPIPS", "LPIPS, mean", ".4f")],
}
LIKELIHOOD: Column = ("bits/dim", "bits/dim", ".3f")
DEVIATION: Column = ("deviation", "deviation", ".1f")
CHOICES = ("likeliest", "best")


def paper_families(root: Path) -> str:
    """Return the table of the families: their sizes, their operations, and the seconds of a sample."""
    found = results(root, "paper")
    rows = {row["family"]: row for row in found["rows"] if row["task"] == "super-resolution"}
    lines = [
        [
            name,
            f"{row['M parameters']:.2f}",
            f"{row['M operations']:.0f}",
            f"{1000 * found['seconds per sample'][name]:.0f}",
        ]
        for name, row in rows.items()
    ]
    return table(["family", "M parameters", "M operations", "ms per sample"], lines)


def paper_scores(task: str, root: Path) -> str:
    """Return the table of one task: the mean over the seeds of each metric, with its interval."""
    columns = [LIKELIHOOD, *COLUMNS[task], DEVIATION]
    lines = [
        [*label, *(_interval([row[name] for row in rows], form) for _, name, form in columns)]
        for label, rows in _by_family(root, task).items()
    ]
    (reference,) = (row for row in results(root, "paper")["references"] if row["task"] == task)
    values = [shown(reference.get(name), form) for _, name, form in columns]
    lines.append([f"*{reference['method']}*", "", *values])
    return table(["family", "τ", *(heading for heading, _, _ in columns)], lines)


def paper_differences(task: str, root: Path) -> str:
    """Return the table of the differences of the other families from CAFLOW with the same seed."""
    columns = [LIKELIHOOD, *COLUMNS[task]]
    found = _by_family(root, task)
    lines = []
    for (family, temperature), rows in found.items():
        if family != REFERENCE:
            pairs = list(zip(rows, found[REFERENCE, temperature], strict=True))
            values = [
                _interval([row[name] - beside[name] for row, beside in pairs], f"+{form}") for _, name, form in columns
            ]
            lines.append([family, temperature, *values])
    return table([f"family − {REFERENCE}", "τ", *(heading for heading, _, _ in columns)], lines)


def paper_choice(task: str, root: Path) -> str:
    """Return the table of what the likeliest of ten samples gains over one of them, and the best one."""
    columns = [(heading, form) for heading, name, form in COLUMNS[task] if name.endswith(", mean")]
    lines = []
    for label, rows in _by_family(root, task).items():
        values = [
            _interval([row[f"{metric}, {chosen}"] - row[f"{metric}, mean"] for row in rows], f"+{form}")
            for metric, form in columns
            for chosen in CHOICES
        ]
        lines.append([*label, *values])
    heading = [f"{metric}: {chosen}" for metric, _ in columns for chosen in CHOICES]
    return table(["family", "τ", *heading], lines)


def _by_family(root: Path, task: str) -> dict[tuple[str, float], list[Row]]:
    """Return the rows of a task by family and temperature, with the seeds in order."""
    found: dict[tuple[str, float], list[Row]] = {}
    for row in sorted(results(root, "paper")["rows"], key=lambda row: (row["temperature"], row["seed"])):
        if row["task"] == task:
            found.setdefault((row["family"], row["temperature"]), []).append(row)
    return found


def _interval(values: Sequence[float], form: str) -> str:
    """Return the mean of the seeds' values with half of its interval of 95 %."""
    half = T * stdev(values) / sqrt(len(values))
    signed = form.replace(".", "z.")  # z: no minus sign before a zero
    return f"{mean(values):{signed}} ± {half:{form.lstrip('+')}}".replace("-", "−")
