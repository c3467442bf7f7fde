"""Which rows run together: images, their windows and their samples, in runs of a bounded number of pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from caflow_runtime.tiles import Window


@dataclass(frozen=True)
class Unit:
    """Rows that share a window of an image, and with it an encoding of the condition."""

    image: int
    window: Window
    samples: tuple[int, ...]


def plan(
    windows: Sequence[list[Window]], samples: Sequence[int], pixel_budget: int, canvas_pixels: int
) -> Iterator[list[Unit]]:
    """Runs of units of one window shape, at most `pixel_budget` pixels (or one row) each.

    All windows of a sample come before the next samples' begin, so that few images are unfinished at any time.

    Arguments:
        windows: of each image.
        samples: numbers of the samples of each image.
        canvas_pixels: pixels of an image in several windows that may be unfinished; at least one sample is.
    """
    run: list[Unit] = []
    for unit in _units(windows, samples, pixel_budget, canvas_pixels):
        rows = sum(len(other.samples) for other in run)
        fits = rows + len(unit.samples) <= rows_per_run(unit.window, pixel_budget)
        if run and not (fits and run[0].window.shape == unit.window.shape):
            yield run
            run = []
        run.append(unit)
    if run:
        yield run


def rows_per_run(window: Window, pixel_budget: int) -> int:
    """How many rows of a window's shape fit the budget."""
    height, width = window.shape
    return max(1, pixel_budget // (height * width))


def _units(
    windows: Sequence[list[Window]], samples: Sequence[int], pixel_budget: int, canvas_pixels: int
) -> Iterator[Unit]:
    for image, of_image in enumerate(windows):
        rows, unfinished = rows_per_run(of_image[0], pixel_budget), len(samples)
        if len(of_image) > 1:
            height, width = of_image[-1].y.end, of_image[-1].x.end
            unfinished = max(1, canvas_pixels // (height * width))
        for first in range(0, len(samples), unfinished):
            numbers = samples[first : first + unfinished]
            for window in of_image:
                for start in range(0, len(numbers), rows):
                    yield Unit(image, window, tuple(numbers[start : start + rows]))
