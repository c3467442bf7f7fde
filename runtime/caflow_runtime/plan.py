"""Which rows run together: images, their windows and their samples, in runs of a bounded number of pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from caflow_runtime.engines import Profile
from caflow_runtime.tiles import Window


@dataclass(frozen=True)
class Unit:
    """Rows that share a window of an image, and with it an encoding of the condition."""

    image: int
    window: Window
    samples: tuple[int, ...]


@dataclass(frozen=True)
class Room:
    """What one run of the graphs holds."""

    pixels: int
    """Of the rows' targets together; a single row may have more."""
    profiles: Sequence[Profile] = ()
    """Sizes that the graphs take; where there are none, any."""

    @property
    def largest_sides(self) -> tuple[int, int] | None:
        """Height and width of a window, at most."""
        largest = max(self.profiles, key=lambda profile: profile.height * profile.width, default=None)
        return None if largest is None else (largest.height, largest.width)

    def rows(self, window: Window) -> int:
        """How many rows of a window's shape, at least one."""
        height, width = window.shape
        rows = self.pixels // (height * width)
        if self.profiles:
            rows = min(rows, max(self._fitting(window), default=1))
        return max(1, rows)

    def holds(self, window: Window, rows: int) -> bool:
        """Whether so many rows of a window's shape are within the budget and the profiles."""
        height, width = window.shape
        return rows * height * width <= self.pixels and (
            not self.profiles or rows <= max(self._fitting(window), default=0)
        )

    def _fitting(self, window: Window) -> list[int]:
        """Most rows of each profile that takes a window's shape."""
        height, width = window.shape
        return [one.rows for one in self.profiles if height <= one.height and width <= one.width]


def plan(
    windows: Sequence[list[Window]], samples: Sequence[int], room: Room, canvas_pixels: int
) -> Iterator[list[Unit]]:
    """Runs of units of one window shape, each with room for it.

    All windows of a sample come before the next samples' begin, so that few images are unfinished at any time.

    Arguments:
        windows: of each image.
        samples: numbers of the samples of each image.
        canvas_pixels: pixels of an image in several windows that may be unfinished; at least one sample is.
    """
    run: list[Unit] = []
    for unit in _units(windows, samples, room, canvas_pixels):
        rows = sum(len(other.samples) for other in run)
        fits = rows + len(unit.samples) <= room.rows(unit.window)
        if run and not (fits and run[0].window.shape == unit.window.shape):
            yield run
            run = []
        run.append(unit)
    if run:
        yield run


def _units(windows: Sequence[list[Window]], samples: Sequence[int], room: Room, canvas_pixels: int) -> Iterator[Unit]:
    for image, of_image in enumerate(windows):
        rows, unfinished = room.rows(of_image[0]), len(samples)
        if len(of_image) > 1:
            height, width = of_image[-1].y.end, of_image[-1].x.end
            unfinished = max(1, canvas_pixels // (height * width))
        for first in range(0, len(samples), unfinished):
            numbers = samples[first : first + unfinished]
            for window in of_image:
                for start in range(0, len(numbers), rows):
                    yield Unit(image, window, tuple(numbers[start : start + rows]))
