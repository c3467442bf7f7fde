"""Which rows run together: images, their windows and their samples, in runs of a bounded number of pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt

from caflow_runtime.bundle.engine_sets import Profile
from caflow_runtime.flow.tiles import Window


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
            rows = min(rows, max(self._fitting(height, width), default=1))
        return max(1, rows)

    def remedy(self, rows: int, height: int, width: int) -> str:
        """What to give so that so many rows of targets of a size run at once."""
        pixels, wanted = rows * height * width, []
        if pixels > self.pixels:
            wanted.append(f"a pixel_budget of {pixels}")
        if self.profiles and rows > max(self._fitting(height, width), default=0):
            square = isqrt(rows * max(height, width) ** 2 - 1) + 1  # as the profile of many rows is
            size = f"--max-size {width}x{height}" if rows == 1 else f"--max-rows {rows} --max-size {square}"
            wanted.append(f"engines of {size}")
        return " and ".join(wanted)

    def _fitting(self, height: int, width: int) -> list[int]:
        """Most rows of each profile that takes targets of a size."""
        return [one.rows for one in self.profiles if height <= one.height and width <= one.width]


@dataclass(frozen=True)
class RunLoad:
    """How the samples of one image run."""

    windows: int
    """Of the image."""
    window_pixels: int
    """Target pixels of each of them."""
    units: int
    """That run together, at most."""
    rows: int
    """That run together, at most."""
    canvases: int
    """Samples that are unfinished at the same time, 0 where the image is one window."""
    encodings: int
    """How often the condition of each window is encoded."""


def plan_runs(
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


def most_unfinished(windows: list[Window], samples: int, canvas_pixels: int) -> int:
    """How many of an image's samples are drawn window by window at the same time, at least one."""
    if len(windows) == 1:
        return samples
    height, width = windows[-1].y.end, windows[-1].x.end
    return min(samples, max(1, canvas_pixels // (height * width)))


def _units(windows: Sequence[list[Window]], samples: Sequence[int], room: Room, canvas_pixels: int) -> Iterator[Unit]:
    for image, of_image in enumerate(windows):
        rows, unfinished = room.rows(of_image[0]), most_unfinished(of_image, len(samples), canvas_pixels)
        for first in range(0, len(samples), unfinished):
            numbers = samples[first : first + unfinished]
            for window in of_image:
                for start in range(0, len(numbers), rows):
                    yield Unit(image, window, tuple(numbers[start : start + rows]))
