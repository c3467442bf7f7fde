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
CHOICES: dict[str, list[str]] = {
    "super-resolution": ["RMSE", "LPIPS"],
    "colorization": ["ab RMSE", "LPIPS"],
    "inpainting": ["PSNR", "LPIPS"],
}


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
        [family, *(_interval([row[name] for row in rows], form) for _, name, form in columns)]
        for family, rows in _by_family(root, task).items()
    ]
    (reference,) = (row for row in results(root, "paper")["references"] if row["task"] == task)
    lines.append([f"*{reference['method']}*", *(shown(reference.get(name), form) for _, name, form in columns)])
    return table(["family", *(heading for heading, _, _ in columns)], lines)


def paper_differences(task: str, root: Path) -> str:
    """Return the table of the differences of the other families from CAFLOW with the same seed."""
    columns = [LIKELIHOOD, *COLUMNS[task]]
    reference, *others = _by_family(root, task).items()
    lines = [
        [family, *(_interval(_differences(rows, reference[1], name), f"+{form}") for _, name, form in columns)]
        for family, rows in others
    ]
    return table([f"family − {REFERENCE}", *(heading for heading, _, _ in columns)], lines)


def paper_choice(root: Path) -> str:
    """Return the table of what the likeliest of ten samples has, and the best one, beside the mean of the ten."""
    lines = []
    for task, metrics in CHOICES.items():
        for family, rows in _by_family(root, task).items():
            cells = [task, family]
            for metric in metrics:
                form = next(form for heading, _, form in COLUMNS[task] if heading == metric)
                for chosen in ("likeliest", "best"):
                    values = [row[f"{metric}, {chosen}"] - row[f"{metric}, mean"] for row in rows]
                    cells.append(_interval(values, f"+{form}"))
            lines.append(cells)
    heading = ["error: likeliest − mean", "error: best − mean", "LPIPS: likeliest − mean", "LPIPS: best − mean"]
    return table(["task", "family", *heading], lines)


def _by_family(root: Path, task: str) -> dict[str, list[Row]]:
    rows = [row for row in results(root, "paper")["rows"] if row["task"] == task]
    names = dict.fromkeys(row["family"] for row in rows)
    return {name: sorted((row for row in rows if row["family"] == name), key=lambda row: row["seed"]) for name in names}


def _differences(rows: Sequence[Row], reference: Sequence[Row], name: str) -> list[float]:
    return [row[name] - beside[name] for row, beside in zip(rows, reference, strict=True)]


def _interval(values: Sequence[float], form: str) -> str:
    """Return the mean of the seeds' values with half of its interval of 95 %."""
    half = T * stdev(values) / sqrt(len(values))
    return f"{mean(values):{form}} ± {half:{form.lstrip('+')}}".replace("-", "−")
