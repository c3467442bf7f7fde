"""Work of a runner: drawing samples of conditions, or scoring targets, batch by batch."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from caflow_runtime.errors import InputError
from caflow_runtime.flow.batching import Room, Unit
from caflow_runtime.flow.noise import DrawNoise
from caflow_runtime.flow.scan import Arrays
from caflow_runtime.flow.tiles import Window
from caflow_runtime.image import Image
from caflow_runtime.rows.assembly import RowPart
from caflow_runtime.rows.device_run import GraphChain, padded
from caflow_runtime.rows.draw import Draw


class Work(Protocol):
    """Rows to compute: every sample of every condition."""

    conditions: Sequence[Image]
    samples: Sequence[int]
    """Numbers of the samples."""

    def begin(self, windows: Sequence[list[Window]], room: Room) -> None:
        """Prepare for batches. This is called again whenever the pixel budget changes.

        Arguments:
            windows: windows of each condition's target.
            room: limits of one run.

        Raises:
            InputError: if the work is not possible with these windows.
        """

    def run(self, units: list[Unit]) -> Iterator[RowPart]:
        """Run one batch."""


class Drawing:
    """Draws the samples with the given numbers."""

    def __init__(
        self,
        chain: GraphChain,
        conditions: Sequence[Image],
        samples: Sequence[int],
        draw: Draw,
        draw_noise: DrawNoise | None,
    ) -> None:
        """Describe the samples to draw.

        Arguments:
            samples: numbers of the samples to draw. `draw.n` is ignored, because additional samples of the same draw
                have other numbers.
            draw_noise: function that draws the noise of one level; None for the backend's.
        """
        self.chain = chain
        self.conditions = conditions
        self.samples = samples
        self.draw = draw
        self.draw_noise = draw_noise
        self._prepared = chain.prepared(conditions)
        self._encoded: tuple[list[tuple[int, int, int]], Arrays] | None = None
        """Encoded conditions of the last batch, and the places of its windows."""
        self._stays = False
        """Whether pixels stay on the device. Pixels of tiled images do not, because the host assembles them."""

    def begin(self, windows: Sequence[list[Window]], room: Room) -> None:
        if self.draw.keep is not None:
            self._check_prunable(windows, room)
        self._stays = all(len(of_image) == 1 for of_image in windows)
        self._encoded = None

    def run(self, units: list[Unit]) -> Iterator[RowPart]:
        chain, draw = self.chain, self.draw
        noise = chain.noise(units, draw, self.draw_noise)
        needs_once = all(len(unit.samples) == len(self.samples) for unit in units)
        encoded = chain.encode(units, self._prepared) if needs_once else self._encode(units)
        rows = chain.sample(units, encoded, noise, draw.keep)
        del encoded  # free it before the pixels are copied
        return chain.parts(units, rows, chain.pixels(rows, self._stays))

    def _encode(self, units: list[Unit]) -> Arrays:
        """Encode the conditions of the units, unless the last batch had the same windows."""
        places = [(unit.image, unit.window.y.start, unit.window.x.start) for unit in units]
        if self._encoded is None or self._encoded[0] != places:
            self._encoded = places, self.chain.encode(units, self._prepared)
        return self._encoded[1]

    def _check_prunable(self, windows: Sequence[list[Window]], room: Room) -> None:
        samples = len(self.samples)
        for of_image in windows:
            if len(of_image) > 1 or samples > room.rows(of_image[0]):
                height, width = of_image[-1].y.end, of_image[-1].x.end
                raise InputError(
                    f"keep: all {samples} samples of an image must fit in one batch, {width}×{height} "
                    f"pixels each: use {room.remedy(samples, height, width)}"
                )


class Scoring:
    """Scores existing targets."""

    def __init__(self, chain: GraphChain, targets: Sequence[Image], conditions: Sequence[Image]) -> None:
        self.chain = chain
        self.conditions = conditions
        self.samples: Sequence[int] = (0,)
        self._targets = [padded(target, chain.model, 1) for target in targets]
        self._prepared = chain.prepared(conditions)

    def begin(self, windows: Sequence[list[Window]], room: Room) -> None:
        pass

    def run(self, units: list[Unit]) -> Iterator[RowPart]:
        return self.chain.parts(units, self.chain.score(units, self._targets, self._prepared))
