"""Histograms of the report, as SVG with the colours of the page."""

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from caflow_runtime.judge.coverage import Coverage
from caflow_runtime.judge.typicality import Floats
from caflow_runtime.report.summary import Histogram, Summary

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, BARS, EXPECTED, ALPHA = "#010101", "#020202", "#030303", "#040404"
COLOURS = {INK: "currentColor", BARS: "var(--bars)", EXPECTED: "var(--expected)", ALPHA: "var(--alpha)"}
"""CSS colours that replace the drawing colours. They belong to the page, and differ in light and dark mode."""
HEIGHT, WIDTH = 2.5, 6.0
"""Size of a plot in inches; an inch has 72 pixels."""
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "caflow",
    "font.size": 9,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def all_of(summary: Summary, alpha: float | None) -> "dict[str, Markup]":
    """Return all plots by name: bits_per_dim, typicality, residuals and coverage (empty if it was not measured)."""
    import matplotlib

    truth = summary.calibration.truth.main
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        return {
            "bits_per_dim": _bits_per_dim(summary.bits_per_dim, truth.bits_per_dim),
            "typicality": _typicality(summary.typicality, alpha),
            "residuals": _residuals(summary.residuals, truth.residuals),
            "coverage": _coverage(summary.calibration.coverage),
        }


def _bits_per_dim(histogram: Histogram, quantiles: list[float]) -> "Markup":
    figure, (axes,) = _figure(1)
    _draw(axes, histogram, histogram.expected(quantiles), "expected from the calibration")
    axes.set_xlabel("bits/dim")
    axes.legend(frameon=False)
    return _svg(figure)


def _typicality(histogram: Histogram, alpha: float | None) -> "Markup":
    figure, (axes,) = _figure(1)
    _draw(axes, histogram, histogram.expected([0.0, 1.0]), "expected: uniform")
    if alpha is not None:
        axes.axvline(alpha, color=ALPHA, label=f"α = {alpha:g}: lower values are rejected")
    axes.set_xlabel("image typicality")
    axes.legend(frameon=False)
    return _svg(figure)


def _residuals(histograms: list[Histogram], quantiles: list[list[float]]) -> "Markup":
    figure, all_axes = _figure(len(histograms))
    for level, (axes, histogram, known) in enumerate(zip(all_axes, histograms, quantiles, strict=True)):
        _draw(axes, histogram, histogram.expected(known), "expected from the calibration")
        axes.set_title(f"level {level}", fontsize="medium")
        axes.set_xlabel("standard deviations")
    return _svg(figure)


def _coverage(coverage: list[Coverage]) -> "Markup":
    """Plot the ranks of true images among samples, in two histograms per level; empty if there are none."""
    from markupsafe import Markup

    if not coverage:
        return Markup("")
    figure, all_axes = _figure(len(coverage))
    for axes, one in zip(all_axes, coverage, strict=True):
        ranks = len(one.counts)
        edges = np.arange(ranks + 1) - 0.5
        axes.stairs(one.counts, edges, fill=True, color=BARS)
        axes.stairs(np.full(ranks, one.images / ranks), edges, color=EXPECTED, linewidth=1.5)
        axes.set_title(f"level {one.level}, {one.quantity}s", fontsize="medium")
        axes.set_xlabel(f"{one.inside:.0%} within the samples' range")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_facecolor("none")
    return _svg(figure)


def _figure(columns: int) -> "tuple[Figure, list[Axes]]":
    """Return a figure and its axes. They are not pyplot's, which keeps all figures in memory."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH if columns == 1 else 2 * WIDTH, HEIGHT), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False, sharey=True)[0])


def _draw(axes: "Axes", histogram: Histogram, expected: Floats, label: str) -> None:
    axes.stairs(histogram.counts, histogram.edges, fill=True, color=BARS, label="these pairs")
    axes.stairs(expected, histogram.edges, color=EXPECTED, linewidth=1.5, label=label)
    axes.set_xlim(histogram.edges[0], histogram.edges[-1])
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_facecolor("none")


def _svg(figure: "Figure") -> "Markup":
    """Return a figure as SVG inside a page: without a header and without namespaces."""
    from markupsafe import Markup

    written = io.StringIO()
    metadata: dict[str, Any] = dict(NO_METADATA)
    figure.savefig(written, format="svg", transparent=True, metadata=metadata)
    text = written.getvalue()
    text = re.sub(r'\s+xmlns(:xlink)?="[^"]*"', "", text[text.index("<svg") :]).replace("xlink:href", "href")
    for drawn, shown in COLOURS.items():
        text = text.replace(drawn, shown)
    return Markup(text)  # safe: it contains only numbers and the labels above
