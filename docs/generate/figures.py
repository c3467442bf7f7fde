"""Figures in the pages of the documentation, generated from the files in benchmarks/results.

A sentence contains a figure as `<span data-figure="NAME">…</span>`; a comment that begins a line would end the
sentence. A table of figures stands between `<!-- figures: NAME -->` and `<!-- end -->`, with an empty line before and
after it. `make docs` and the tests fail if a figure differs from the results. `python docs/generate/figures.py` updates
all figures.
"""

import re
from collections.abc import Callable
from pathlib import Path

from completion_figures import colorization, colorization_gains, inpainting, inpainting_gains
from paper_figures import paper_choice, paper_differences, paper_families, paper_scores
from quality_figures import (
    coverage,
    degraded,
    detection,
    estimated_degradations,
    known_degradations,
    largest_outlier_of_the_truth,
    largest_outliers,
    passes,
    quality,
    rejected,
    study,
    study_seeds,
    video,
    video_coded,
)
from speed_figures import (
    cpp,
    floors,
    gain,
    gigaflop,
    gpu_estimate,
    hardware,
    machines,
    memory,
    rate_of,
    rates,
    serving,
    workers,
)

PAGES = ("README.md", "docs/**/*.md", "models/*/README.md", "benchmarks/README.md")
FIGURE = re.compile(
    r'(?P<start><(?:span data-figure="|!-- figures: )(?P<name>[\w.-]+)(?:">| -->\n\n))'
    r"(?P<text>.*?)(?P<end></span>|\n\n<!-- end -->)",
    re.DOTALL,
)
START = re.compile(r"<!--\s*figures:|<span\s+data-figure=")


def outdated(root: Path) -> list[str]:
    """Return one line for each figure that differs from the results, has an unknown name or does not end."""
    lines = []
    for page in pages(root):
        contents = page.read_text(encoding="utf-8")
        found = list(FIGURE.finditer(contents))
        if len(found) < len(START.findall(contents)):
            lines.append(f"{page.relative_to(root)}: a figure has no end, or a table of figures no empty lines")
        for figure in found:
            name = figure["name"]
            if name not in FIGURES:
                lines.append(f"{page.relative_to(root)}: figures must be one of {', '.join(FIGURES)}; got {name}")
            elif figure["text"] != FIGURES[name](root):
                lines.append(f"{page.relative_to(root)}: {name} is outdated: run python docs/generate/figures.py")
    return lines


def write(root: Path) -> None:
    """Update all figures in all pages."""
    for page in pages(root):
        before = page.read_text(encoding="utf-8")
        after = FIGURE.sub(lambda figure: f"{figure['start']}{FIGURES[figure['name']](root)}{figure['end']}", before)
        if after != before:
            page.write_text(after, encoding="utf-8")


def pages(root: Path) -> list[Path]:
    """Return the pages that may contain figures."""
    return [page for pattern in PAGES for page in sorted(root.glob(pattern))]


FIGURES: dict[str, Callable[[Path], str]] = {
    "quality": quality,
    "degraded": degraded,
    "detection": lambda root: detection("filter-last", root),
    "detection-x4-real": lambda root: detection("filter-x4-real", root),
    "coverage": coverage,
    "passes": passes,
    "rejected-at-0.01": lambda root: rejected("filter-last", "0.01", root),
    "rejected-at-0.05": lambda root: rejected("filter-last", "0.05", root),
    "rejected-at-0.1": lambda root: rejected("filter-last", "0.1", root),
    "rejected-x4-real": lambda root: rejected("filter-x4-real", "0.05", root),
    "memory": memory,
    "video": video,
    "video-coded": video_coded,
    "x4-photo-rate": lambda root: rate_of("x4-photo", root),
    "x2-video-rate": lambda root: rate_of("x2-video", root),
    "study": study,
    "study-seeds": study_seeds,
    "hardware": hardware,
    "floors": lambda root: floors("floors", root),
    "floors-video": lambda root: floors("floors-video", root),
    "gain": lambda root: f"{gain('floors', 'fp32', root):.2f}",
    "gain-bf16": lambda root: f"{gain('floors', 'bf16', root):.1f}",
    "gain-video": lambda root: f"{gain('floors-video', 'fp32', root):.1f}",
    "gain-video-bf16": lambda root: f"{gain('floors-video', 'bf16', root):.1f}",
    "rates": rates,
    "known-degradations": known_degradations,
    "estimated-degradations": estimated_degradations,
    "cpp": cpp,
    "workers": workers,
    "serving": serving,
    "machines": machines,
    "outliers": largest_outliers,
    "outliers-of-the-truth": largest_outlier_of_the_truth,
    "gigaflop": gigaflop,
    "gpu-estimate": gpu_estimate,
    "inpainting": inpainting,
    "inpainting-gains": inpainting_gains,
    "colorization": colorization,
    "colorization-gains": colorization_gains,
    "paper-families": paper_families,
    "paper-super-resolution": lambda root: paper_scores("super-resolution", root),
    "paper-super-resolution-differences": lambda root: paper_differences("super-resolution", root),
    "paper-super-resolution-choice": lambda root: paper_choice("super-resolution", root),
    "paper-colorization": lambda root: paper_scores("colorization", root),
    "paper-colorization-differences": lambda root: paper_differences("colorization", root),
    "paper-colorization-choice": lambda root: paper_choice("colorization", root),
    "paper-inpainting": lambda root: paper_scores("inpainting", root),
    "paper-inpainting-differences": lambda root: paper_differences("inpainting", root),
    "paper-inpainting-choice": lambda root: paper_choice("inpainting", root),
}
"""Function that returns a figure, by the name of the figure. Its argument is the repository's folder."""


if __name__ == "__main__":
    write(Path(__file__).parents[2])
