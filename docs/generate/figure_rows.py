"""Rows and numbers of the pages' figures that are more than a selection of results."""

from collections.abc import Callable, Iterable, Iterator
from math import sqrt
from statistics import mean, stdev
from typing import Any

Row = dict[str, Any]
CORE_PRICE = 0.04
"""Price of a CPU core in dollars per hour."""
T = 4.303
"""Factor of an interval of 95 % from three seeds: a quantile of Student's t with two degrees of freedom."""
METRICS = {
    "bits/dim": ("bits/dim", ".3f"),
    "RMSE": ("RMSE, mean", ".2f"),
    "ab RMSE": ("ab RMSE, mean", ".2f"),
    "PSNR": ("PSNR, mean", ".2f"),
    "LR-PSNR": ("LR-PSNR, mean", ".1f"),
    "LPIPS": ("LPIPS, mean", ".3f"),
    "Fréchet, one": ("Fréchet, one", ".1f"),
    "Fréchet, likeliest": ("Fréchet, likeliest", ".1f"),
    "deviation": ("deviation", ".1f"),
}
"""Key in the results, and format, of each metric of the paper's families."""


class Best(float):
    """A value that is shown in bold."""

    def __format__(self, form: str) -> str:
        return f"**{float(self):{form}}**"


def across(rows: Iterable[Row], by: str, key: str) -> list[Row]:
    """Return one row for each value of `by`, with the values of its rows; their names begin with the value of `key`."""
    found: dict[Any, Row] = {}
    for row in rows:
        found.setdefault(row[by], {by: row[by]}).update({f"{row[key]} {name}": value for name, value in row.items()})
    return list(found.values())


def of_clean_inputs(found: Any) -> list[Row]:
    """Return a row for each method and choice, with both sizes and the best values in bold."""
    rows = []
    for row in found["rows"]:
        ours = "" if row["temperature"] is None else f" {row['temperature']} {row['rank']}"
        if row["degradation"] == "clean" and row["rank"] in ("", "likelihood") and "before" not in row["method"]:
            rows.append({**row, "method": row["method"] + ours})
    rows = across(rows, "method", "size")
    for size in ("16-64", "64-256"):
        _mark(rows, f"{size} psnr", max, 2)
        _mark(rows, f"{size} lpips", min, 3)
    return rows


def _mark(rows: list[Row], key: str, best: Callable[..., float], digits: int) -> None:
    """Mark the rows with the best value of a key, as it is shown."""
    value = best(round(row[key], digits) for row in rows)
    for row in rows:
        row[key] = Best(row[key]) if round(row[key], digits) == value else row[key]


def of_degraded_inputs(found: Any) -> list[Row]:
    """Return a row for each degradation, with the values of all methods and the least LPIPS in bold."""
    shown = (row for row in found["rows"] if not row["rank"] and row["temperature"] != 0)
    rows = across(shown, "degradation", "method")
    for row in rows:
        least = min(value for key, value in row.items() if key.endswith(" lpips"))
        row.update({key: Best(value) for key, value in row.items() if key.endswith(" lpips") and value == least})
    return rows


def of_hard_inputs(found: Any) -> list[Row]:
    """Return a row for each kind of condition that is hard, with the values of both models."""
    return list(across(found["rows"], "conditions", "method"))


def of_chosen_models(found: Any) -> list[Row]:
    """Return the rows with keys without colons, which templates cannot name."""
    return [{key.replace(":", ""): value for key, value in row.items()} for row in found["rows"]]


def of_fillings(found: Any) -> Iterator[Row]:
    """Yield a row for each method, with the values of all holes and the longest time."""
    for row in across(found["rows"], "method", "hole"):
        yield row | {"longest": max(value for key, value in row.items() if key.endswith(" seconds"))}


def of_gains_in_holes(found: Any) -> Iterator[Row]:
    """Yield a row for each kind of hole, with the differences of PSNR from both peers."""
    for row in across(found["rows"], "hole", "method"):
        smooth = "smooth first filling hole psnr"
        yield row | {
            "patchmatch psnr": row["model hole psnr"] - row["patchmatch hole psnr"],
            "navier-stokes psnr": row[f"model, {smooth}"] - row[f"navier-stokes, {smooth}"],
        }


def of_dots(found: Any) -> Iterator[Row]:
    """Yield the rows of colorization. Without dots, there are no places."""
    for row in found["rows"]:
        yield row | {"where": row["where"] if row["dots"] else ""}


def of_two_cores(found: Any) -> Iterator[Row]:
    """Yield the rows of `caflow image` on two cores with the hours and the price of a million images."""
    for row in found["rows"]:
        if row["method"] == "caflow image":
            hours = 2e6 * row["s"] / 3600
            yield row | {"hours": hours, "price": hours * CORE_PRICE}


def of_families(found: Any) -> Iterator[Row]:
    """Yield a row for each of the paper's families, with its size and the time of a sample."""
    for row in {row["family"]: row for row in found["rows"] if row["task"] == "super-resolution"}.values():
        yield row | {"ms": 1000 * found["seconds per sample"][row["family"]]}


def of_paper(found: Any) -> Iterator[Row]:
    """Yield a row for each task, family and temperature, and one for the method of each task that learns nothing.

    A row has the scores, their differences from CAFLOW's, and the differences of the likeliest sample from one sample:
    means over the seeds with half of their intervals of 95 %. Differences have their sign with each seed.
    """
    cells: dict[tuple[str, str, float], list[Row]] = {}
    for row in sorted(found["rows"], key=lambda row: (row["temperature"], row["seed"])):
        cells.setdefault((row["task"], row["family"], row["temperature"]), []).append(row)
    for (task, family, temperature), rows in cells.items():
        kind = "CAFLOW" if family == "CAFLOW" else "other"
        shown = {"task": task, "family": family, "τ": str(temperature), "kind": kind}
        for name, (key, form) in _metrics(task, rows[0]):
            values = [row[key] for row in rows]
            pairs = zip(values, cells[task, "CAFLOW", temperature], strict=True)
            shown[name] = _interval(values, form)
            shown[f"{name} − CAFLOW"] = _difference([value - other[key] for value, other in pairs], f"+{form}")
            if (chosen := f"{name.removesuffix(', one')}, likeliest") in rows[0]:
                shown[f"{chosen} − one"] = _difference([row[chosen] - row[key] for row in rows], f"+{form}")
        yield shown
    for row in found["references"]:
        scores = {name: format(row[key], form) for name, (key, form) in _metrics(row["task"], row)}
        yield {"task": row["task"], "family": f"*{row['method']}*", "τ": "", "kind": "reference", **scores}


def _metrics(task: str, row: Row) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield name, key and format of the metrics that a row has. The small LPIPS of inpainting has more digits."""
    for name, (key, form) in METRICS.items():
        if key in row:
            yield name, (key, ".4f" if (task, name) == ("inpainting", "LPIPS") else form)


def _difference(values: list[float], form: str) -> str:
    """Return the interval of differences, and in parentheses the sign with each seed."""
    return f"{_interval(values, form)} ({''.join('−' if value < 0 else '+' for value in values)})"


def _interval(values: list[float], form: str) -> str:
    """Return the mean of the seeds' values with half of its interval of 95 %."""
    half = T * stdev(values) / sqrt(len(values))
    signed = form.replace(".", "z.")  # z: no minus sign before a zero
    return f"{mean(values):{signed}} ± {half:{form.lstrip('+')}}".replace("-", "−")
