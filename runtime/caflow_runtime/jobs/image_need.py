"""Estimates of windows, time and memory for an image, made before it is drawn; and checks of available memory.

The bytes per pixel in this file count the arrays that exist at the same time in `images.py` and the functions it calls.
The memory of model runs is measured for each bundle. `benchmarks/memory.py` compares the sum with real processes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from caflow_runtime.available_memory import Available, available_memory, memory_of_all, readable, resident_memory
from caflow_runtime.errors import CaflowError
from caflow_runtime.jobs.passes import Form
from caflow_runtime.pipeline.need import Needs, SpeedTrial, Stage
from caflow_runtime.rows.draw import Draw

RGB, DEEP, FLOATS = 3, 6, 12
"""Bytes of an RGB pixel: with 8 bits, with 16 bits, and as float32."""
PROJECTED, DEGRADED = 2 * FLOATS, 2 * FLOATS
"""Working memory, in bytes per target pixel, to make results consistent, or to compare them with the input."""
SHEET, MAPS = 48, 58
"""Bytes per target pixel to make the sheet, and to make the maps."""
READ_AGAIN, READ_AGAIN_WITH_ALPHA = 3 * RGB, 6 * RGB
"""Bytes per target pixel to read a written file again."""
ENCODED, ENCODED_AS_JPEG, ENCODED_AS_WEBP = 3.0, 1.0, 13.0
"""Memory of the encoder and the encoded file with metadata, as a multiple of the picture's bytes."""
SPARE = 1.05
"""Factor on the memory of arrays, for small arrays that are not counted."""
LARGE_PART = 0.25
"""Fraction of the total memory that runs must exceed before a smaller pixel budget is suggested."""


class TooLittleMemory(CaflowError, MemoryError):
    """More memory is required than is available. Raised before anything is drawn."""


@dataclass(frozen=True)
class Source:
    """Properties of an image file that are known before it is drawn."""

    height: int
    width: int
    bits: int = 8
    has_alpha: bool = False
    is_grey: bool = False
    """Whether the image is grey and its result will be grey."""
    is_alpha_drawn: bool = False
    """Whether the model draws the alpha, too: it does not draw one that is constant."""


@dataclass(frozen=True)
class Wanted:
    """Results that are requested for an image."""

    form: Form
    draw: Draw
    keeps_all: bool
    """Whether all samples are kept until the end, not only the best one."""
    has_sheet: bool
    has_maps: bool
    is_read_again: bool
    """Whether the written file is read again and scored, because its pixels differ from the drawn ones, as in JPEG."""
    suffix: str
    """Suffix of the output file, in lower case."""


@dataclass(frozen=True)
class ImageNeed:
    """Estimated work and memory for one image."""

    source: Source
    wanted: Wanted
    stages: tuple[Stage, ...]
    """Stages of work: the passes of the model, then scoring if the result is scored."""
    alpha_stages: tuple[Stage, ...]
    """Stages of work on alpha, before the others."""
    trial: SpeedTrial
    bytes: int
    """Peak memory of the process, in bytes. Memory used before the bundle was opened is missing where it is unknown."""
    run_bytes: float
    """Part of `bytes` that a smaller pixel budget reduces: the memory of the largest run."""
    is_measured: bool
    """Whether the memory of runs was measured for this bundle. If not, `bytes` does not include it."""

    @property
    def windows(self) -> int:
        """Number of windows of one sample, in all passes."""
        drawn = self.stages[: self.wanted.form.size.passes]
        return sum(stage.windows for stage in drawn) // self.wanted.draw.n

    @property
    def operations(self) -> float:
        """Multiplications and additions of all stages."""
        return sum(stage.operations(stage.windows) for stage in (*self.alpha_stages, *self.stages))

    def operations_until(self, stage: int, windows: int) -> float:
        """Return the multiplications and additions until this number of windows of a stage, from 0, is finished."""
        finished = (*self.alpha_stages, *self.stages[:stage])
        now = self.stages[stage].operations(windows) if stage < len(self.stages) else 0.0
        return sum(one.operations(one.windows) for one in finished) + now


def need_of_image(needs: Needs, source: Source, wanted: Wanted) -> ImageNeed:
    """Estimate the work and memory for an image.

    Raises:
        InputError: if the image cannot be cut into tiles.
    """
    size, scale, n = wanted.form.size, needs.manifest.model.scale, wanted.draw.n
    before, given = needs.before or 0, _of_source(source, wanted)
    if not size.passes:
        written = _writing(wanted, source.has_alpha) * size.height * size.width
        return ImageNeed(source, wanted, (), (), needs.trial(n), round(before + given + written), 0.0, True)
    sides = [(scale**k * source.height, scale**k * source.width) for k in range(1, size.passes + 1)]
    passes = [needs.drawing(*of_pass, n) for of_pass in sides]
    scored = [needs.scoring(*sides[-1])] if _is_scored(wanted) else []
    runs = [one.run_bytes or 0.0 for one in (*passes, *scored)]
    height, width = sides[-1]
    pixels = height * width
    multiple = needs.manifest.model.size_multiple
    is_padded = bool(height % multiple or width % multiple)
    given += RGB * (1 + is_padded) * pixels / scale**2
    of_arrays = SPARE * max(
        passes[-1].canvas_bytes + _drawing(wanted, needs.share_bytes) * pixels,
        _scoring(wanted, needs.share_bytes, is_padded, source.has_alpha) * pixels if scored else 0.0,
        _kept(wanted, needs.share_bytes) * pixels + _writing(wanted, source.has_alpha) * size.height * size.width,
        (_kept(wanted, needs.share_bytes) + max(SHEET * wanted.has_sheet, MAPS * wanted.has_maps)) * pixels,
    )
    loaded = needs.graph_bytes(bool(scored))
    total = before + given + (loaded or 0.0) + max(runs) + of_arrays
    stages = tuple(one.stage for one in (*passes, *scored))
    alpha = tuple(needs.drawing(*of_pass, 1).stage for of_pass in sides if source.is_alpha_drawn)
    return ImageNeed(source, wanted, stages, alpha, needs.trial(n), round(total), max(runs), loaded is not None)


def check_memory(need: ImageNeed) -> None:
    """Check that the memory for an image is available, in addition to the memory that the process uses already.

    Raises:
        TooLittleMemory
    """
    check_bytes(need.bytes, " or ".join(remedies(need)))


def check_bytes(peak: int, remedy: str) -> None:
    """Check that this process can grow to `peak` bytes. On systems where memory is unknown, nothing is checked.

    Arguments:
        remedy: advice for the error, such as "use a smaller image".

    Raises:
        TooLittleMemory
    """
    available, now = available_memory(), resident_memory()
    if available is not None and now is not None and peak - now > available.bytes:
        raise TooLittleMemory(_why(peak - now, available), remedy)


def check_together(peaks: Iterable[int], processes: int) -> None:
    """Check that several processes fit into memory together, in addition to this one.

    A single process is not checked.

    Arguments:
        peaks: peak bytes of a process for each piece of work. The largest pieces may run at the same time.
        processes: number of processes.

    Raises:
        TooLittleMemory
    """
    available = memory_of_all()
    largest = sorted(peaks, reverse=True)[:processes]
    if available is None or sum(largest) <= available.bytes or len(largest) == 1:
        return
    fitting = max(1, sum(sum(largest[: k + 1]) <= available.bytes for k in range(len(largest))))
    raise TooLittleMemory(_why(sum(largest), available), f"use --workers {fitting}")


def remedies(need: ImageNeed) -> list[str]:
    """Return suggestions that would reduce the memory for an image."""
    found = []
    if need.run_bytes > LARGE_PART * need.bytes:
        found.append("a smaller --pixel-budget")
    if need.wanted.keeps_all and need.wanted.draw.n > 1:
        found.append("fewer --samples")
    found.append("a smaller image")
    return [f"use {found[0]}", *found[1:]]


def _why(wanted: int, available: Available) -> str:
    return (
        f"{readable(wanted)} of memory required, {readable(available.bytes)} available (according to "
        f"{available.limited_by})"
    )


def _is_scored(wanted: Wanted) -> bool:
    return wanted.is_read_again or wanted.draw.consistent or wanted.draw.judges == "image"


def _of_source(source: Source, wanted: Wanted) -> float:
    """Return the bytes of the source's pixels, and of its alpha at the size of the result."""
    deep = DEEP * (source.bits > 8)
    alpha = wanted.form.size.height * wanted.form.size.width if source.has_alpha else 0
    return (RGB + deep + source.has_alpha) * source.height * source.width + alpha


def _picture(wanted: Wanted) -> int:
    """Return the bytes of one pixel of a sample. A 16-bit sample is stored with 8 bits, too."""
    return RGB + DEEP * (wanted.form.bits == 16)


def _drawing(wanted: Wanted, shares: float) -> float:
    """Return the bytes per target pixel of finished samples, and of work on the last one."""
    draw = wanted.draw
    kept = draw.n if wanted.keeps_all or draw.judges == "image" else min(draw.n, 2)
    compared = PROJECTED if draw.consistent else DEGRADED if draw.rank == "consistency" else 0
    return kept * _picture(wanted) + (kept - 1) * shares + compared  # the canvas includes shares of the last sample


def _kept(wanted: Wanted, shares: float) -> float:
    """Return the bytes per target pixel of the results."""
    return (wanted.draw.n if wanted.keeps_all else 1) * (_picture(wanted) + shares)


def _scoring(wanted: Wanted, shares: float, is_padded: bool, has_alpha: bool) -> float:
    """Return the bytes per target pixel of the results, and of scoring one of them."""
    of_file = (READ_AGAIN_WITH_ALPHA if has_alpha else READ_AGAIN) if wanted.is_read_again else 0
    return _kept(wanted, shares) + of_file + RGB * is_padded + shares


def _writing(wanted: Wanted, has_alpha: bool) -> float:
    """Return the bytes per pixel of the output file, for reducing, encoding and writing it."""
    channels, size = 3 + has_alpha, wanted.form.bits // 8
    encoded = {".webp": ENCODED_AS_WEBP, ".jpg": ENCODED_AS_JPEG, ".jpeg": ENCODED_AS_JPEG}.get(wanted.suffix, ENCODED)
    reduced = 0 if wanted.form.is_own else 3 * size
    return reduced + channels * size * (1 + encoded) + 4 * RGB * size * has_alpha
