"""Histograms of the report, as SVG with the colours of the page."""

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from caflow_deploy.filtering.report_summary import Histogram, Summary
from caflow_runtime.ood.coverage import Coverage
from caflow_runtime.ood.typicality import Floats

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, BARS, EXPECTED, ALPHA = "#010101", "#020202", "#030303", "#040404"
COLOURS = {INK: "currentColor", BARS: "var(--bars)", EXPECTED: "var(--expected)", ALPHA: "var(--alpha)"}
"""CSS colours that replace the drawing colours. They belong to the page, and differ in light and dark mode."""
LARGE, SMALL = (6.0, 2.5), (4.2, 2.1)
"""Width and height of a plot in inches. The page scales it to its column, by about 72 pixels per inch."""
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "caflow",
    "font.size": 9,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def all_of(summary: Summary, min_typicality: float | None) -> "dict[str, Markup | list[Markup]]":
    """Return all plots by name.

    bits_per_dim and typicality are one plot each, residuals has one for each level, and coverage one for each measured
    quantity of a level; it is empty if coverage was not measured.
    """
    import matplotlib

    truth = summary.calibration.truth.main
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        return {
            "bits_per_dim": _bits_per_dim(summary.bits_per_dim, truth.bits_per_dim),
            "typicality": _typicality(summary.typicality, min_typicality),
            "residuals": [
                _residuals(level, histogram, quantiles)
                for level, (histogram, quantiles) in enumerate(zip(summary.residuals, truth.residuals, strict=True))
            ],
            "coverage": [_coverage(one) for one in summary.calibration.coverage],
        }


def _bits_per_dim(histogram: Histogram, quantiles: list[float]) -> "Markup":
    figure, axes = _figure(LARGE)
    _draw(axes, histogram, histogram.expected(quantiles), "expected from the calibration")
    axes.set_xlabel("bits/dim")
    return _svg(figure, has_legend=True)


def _typicality(histogram: Histogram, min_typicality: float | None) -> "Markup":
    figure, axes = _figure(LARGE)
    _draw(axes, histogram, histogram.expected([0.0, 1.0]), "expected: uniform")
    if min_typicality is not None:
        axes.axvline(min_typicality, color=ALPHA, label=f"α = {min_typicality:g}: lower values are rejected")
    axes.set_xlabel("image typicality")
    return _svg(figure, has_legend=True)


def _residuals(level: int, histogram: Histogram, quantiles: list[float]) -> "Markup":
    figure, axes = _figure(SMALL)
    _draw(axes, histogram, histogram.expected(quantiles), "expected from the calibration")
    axes.set_title(f"level {level}", fontsize="medium")
    axes.set_xlabel("standard deviations")
    return _svg(figure)


def _coverage(coverage: Coverage) -> "Markup":
    """Plot the ranks of true images among samples, for one quantity of one level."""
    figure, axes = _figure(SMALL)
    axes.locator_params("x", integer=True)
    ranks = len(coverage.counts)
    edges = np.arange(ranks + 1) - 0.5
    axes.stairs(coverage.counts, edges, fill=True, color=BARS)
    axes.stairs(np.full(ranks, coverage.images / ranks), edges, color=EXPECTED, linewidth=1.5)
    axes.set_title(f"level {coverage.level}, {coverage.quantity}s", fontsize="medium")
    axes.set_xlabel(f"{coverage.inside:.0%} within the samples' range")
    return _svg(figure)


def _figure(size: tuple[float, float]) -> "tuple[Figure, Axes]":
    """Return a figure and its axes. They are not pyplot's, which keeps all figures in memory."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_facecolor("none")
    axes.locator_params("y", integer=True)
    return figure, axes


def _draw(axes: "Axes", histogram: Histogram, expected: Floats, label: str) -> None:
    axes.stairs(histogram.counts, histogram.edges, fill=True, color=BARS, label="these pairs")
    axes.stairs(expected, histogram.edges, color=EXPECTED, linewidth=1.5, label=label)
    axes.set_xlim(histogram.edges[0], histogram.edges[-1])
    axes.set_ylim(bottom=0)


def _svg(figure: "Figure", has_legend: bool = False) -> "Markup":
    """Return a figure as SVG inside a page: without a header and without namespaces. A legend lies above the bars."""
    from markupsafe import Markup

    if has_legend:
        figure.legend(loc="outside upper left", frameon=False, ncols=3)
    written = io.StringIO()
    metadata: dict[str, Any] = dict(NO_METADATA)
    figure.savefig(written, format="svg", transparent=True, metadata=metadata)
    text = written.getvalue()
    text = re.sub(r'\s+xmlns(:xlink)?="[^"]*"', "", text[text.index("<svg") :]).replace("xlink:href", "href")
    for drawn, shown in COLOURS.items():
        text = text.replace(drawn, shown)
    return Markup(text)  # safe: it contains only numbers and the labels above
