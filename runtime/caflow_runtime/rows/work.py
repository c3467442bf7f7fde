"""What a runner does: samples of conditions, or likelihoods of targets, batch by batch."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from caflow_runtime.bundle.manifest import Model
from caflow_runtime.errors import InputError
from caflow_runtime.flow.batching import Room, Unit
from caflow_runtime.flow.noise import DrawNoise
from caflow_runtime.flow.scan import Arrays
from caflow_runtime.flow.tiles import Window, pad
from caflow_runtime.image import Image
from caflow_runtime.rows.assembly import RowPart
from caflow_runtime.rows.device_run import GraphChain
from caflow_runtime.rows.draw import Draw


class Work(Protocol):
    """Rows that are wanted: each sample of each condition."""

    conditions: Sequence[Image]
    samples: Sequence[int]

    def begin(self, windows: Sequence[list[Window]], room: Room) -> None:
        """Batches follow, of those windows of each condition's target.

        Raises:
            InputError: if it cannot be done so.
        """

    def run(self, units: list[Unit]) -> Iterator[RowPart]:
        """One batch."""


class Drawing:
    """Samples, by their numbers."""

    def __init__(
        self, chain: GraphChain, conditions: Sequence[Image], samples: Sequence[int], draw: Draw, draw_noise: DrawNoise
    ) -> None:
        """`draw.n` says nothing here: more samples of the same draw have other numbers."""
        self.chain = chain
        self.conditions = conditions
        self.samples = samples
        self.draw = draw
        self.draw_noise = draw_noise
        self._padded = [padded(condition, chain.model, chain.model.scale) for condition in conditions]
        self._encoded: tuple[list[tuple[int, int, int]], Arrays] | None = None
        """Of the last batch, and where its windows were."""
        self._stays = False

    def begin(self, windows: Sequence[list[Window]], room: Room) -> None:
        if self.draw.keep is not None:
            self._check_prunable(windows, room)
        self._stays = all(len(of_image) == 1 for of_image in windows)
        self._encoded = None

    def run(self, units: list[Unit]) -> Iterator[RowPart]:
        chain, draw = self.chain, self.draw
        noise = chain.noise(units, draw, self.draw_noise)
        if draw.keep is None and all(len(unit.samples) == len(self.samples) for unit in units):
            rows = chain.sample_at_once(chain.conditions(units, self._padded), chain.owners(units), noise)
        else:
            rows = chain.sample(units, self._encode(units), noise, draw.keep)
        return chain.parts(units, rows, chain.pixels(rows, self._stays))

    def _encode(self, units: list[Unit]) -> Arrays:
        """More samples of the same windows need no new encoding."""
        places = [(unit.image, unit.window.y.start, unit.window.x.start) for unit in units]
        if self._encoded is None or self._encoded[0] != places:
            self._encoded = places, self.chain.encode(units, self._padded)
        return self._encoded[1]

    def _check_prunable(self, windows: Sequence[list[Window]], room: Room) -> None:
        samples = len(self.samples)
        for k, of_image in enumerate(windows):
            if len(of_image) > 1 or samples > room.rows(of_image[0]):
                height, width = of_image[-1].y.end, of_image[-1].x.end
                raise InputError(
                    f"keep: all {samples} samples of images[{k}] must run at once, {height}×{width} "
                    f"pixels each: give {room.remedy(samples, height, width)}"
                )


class Scoring:
    """Likelihoods of given targets."""

    def __init__(self, chain: GraphChain, targets: Sequence[Image], conditions: Sequence[Image]) -> None:
        self.chain = chain
        self.conditions = conditions
        self.samples: Sequence[int] = (0,)
        self._targets = [padded(target, chain.model, 1) for target in targets]
        self._padded = [padded(condition, chain.model, chain.model.scale) for condition in conditions]

    def begin(self, windows: Sequence[list[Window]], room: Room) -> None:
        pass

    def run(self, units: list[Unit]) -> Iterator[RowPart]:
        return self.chain.parts(units, self.chain.score(units, self._targets, self._padded))


def padded(image: Image, model: Model, scale: int) -> Image:
    """An image whose target is `scale` times as large, such that the target's sides are multiples."""
    multiple = model.size_multiple // scale
    height, width = (-(-side // multiple) * multiple for side in image.shape[:2])
    return pad(image, height, width)
