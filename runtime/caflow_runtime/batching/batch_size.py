"""Planning which items run together: windows and samples are grouped into runs with a limited number of pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from caflow_runtime.bundle.engine_sets import Profile
from caflow_runtime.flow.tiles import Tile


@dataclass(frozen=True)
class TileBatch:
    """Items of one image and one window, so that they share one encoding of the condition."""

    image: int
    window: Tile
    samples: tuple[int, ...]


@dataclass(frozen=True)
class BatchLimits:
    """Limits of one run of the graphs."""

    pixels: int
    """Maximum number of target pixels of all items together; a single item may have more."""
    profile: Profile | None = None
    """Largest sizes that the graphs support; None if there is no limit."""

    @property
    def largest_sides(self) -> tuple[int, int] | None:
        """Maximum height and width of a window, or None if there is no limit."""
        return None if self.profile is None else (self.profile.height, self.profile.width)

    def items(self, window: Tile) -> int:
        """Return how many items with this window's shape fit into one run, at least 1."""
        height, width = window.shape
        items = self.pixels // (height * width)
        return max(1, items if self.profile is None else min(items, self.profile.batch_size))

    def remedy(self, items: int, height: int, width: int) -> str:
        """Return which limits must be raised to run this many items at once, as a noun phrase.

        The text is empty if the items fit already.

        Arguments:
            height, width: size of the target in pixels.
        """
        pixels, wanted = items * height * width, []
        if pixels > self.pixels:
            wanted.append(f"a pixel budget of {pixels}")
        largest = self.profile
        if largest and (items > largest.batch_size or height > largest.height or width > largest.width):
            wanted.append(f"engines of --max-batch-size {items} --max-size {width}x{height}")
        return " and ".join(wanted)


@dataclass(frozen=True)
class BatchCost:
    """Workload of drawing or scoring one image."""

    windows: int
    """Number of windows of the image."""
    window_pixels: int
    """Number of target pixels of each window."""
    units: int
    """Maximum number of units in one run."""
    items: int
    """Maximum number of items in one run."""
    canvases: int
    """Maximum number of incomplete samples at any time; 0 if the image is a single window."""
    encodings: int
    """How many times the condition of each window is encoded."""


def plan_batches(
    windows: Sequence[list[Tile]], samples: Sequence[int], limits: BatchLimits, canvas_pixels: int
) -> list[list[TileBatch]]:
    """Return the batches: lists of units whose windows have one shape and whose items fit into `limits`.

    All windows of a group of samples are run before the next group begins, so that few images are incomplete at any
    time.

    Arguments:
        windows: windows of each image.
        samples: numbers of the samples of each image.
        canvas_pixels: maximum number of target pixels of incomplete tiled images; at least one sample is always
            processed.
    """
    batches: list[list[TileBatch]] = []
    for image, of_image in enumerate(windows):
        most, unfinished = limits.items(of_image[0]), most_unfinished(of_image, len(samples), canvas_pixels)
        for first in range(0, len(samples), unfinished):
            numbers = samples[first : first + unfinished]
            for window, start in product(of_image, range(0, len(numbers), most)):
                unit = TileBatch(image, window, tuple(numbers[start : start + most]))
                last = batches[-1] if batches else []
                items = sum(len(other.samples) for other in last)
                if last and last[0].window.shape == window.shape and items + len(unit.samples) <= most:
                    last.append(unit)
                else:
                    batches.append([unit])
    return batches


def most_unfinished(windows: list[Tile], samples: int, canvas_pixels: int) -> int:
    """Return how many samples of an image are processed together, window by window: at least 1."""
    if len(windows) == 1:
        return samples
    height, width = windows[-1].y.end, windows[-1].x.end
    return min(samples, max(1, canvas_pixels // (height * width)))
