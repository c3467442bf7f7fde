"""What an image takes, before it is drawn: windows, operations and memory; and whether there is so much memory.

Bytes per pixel that are written here are those of the arrays that are alive at the same time, in `images.py` and what
it calls; those of a run are measured, per bundle. `benchmarks/memory.py` holds the sum against processes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from caflow_runtime.available_memory import Available, available_memory, memory_of_all, readable, resident_memory
from caflow_runtime.errors import CaflowError
from caflow_runtime.jobs.passes import Form
from caflow_runtime.pipeline.need import Needs, Stage
from caflow_runtime.rows.draw import Draw

RGB, DEEP, FLOATS = 3, 6, 12
"""Bytes of a pixel of 8 and of 16 bits, and in single precision."""
PROJECTED, DEGRADED = 2 * FLOATS, 2 * FLOATS
"""Where results are made consistent, or are compared with the input."""
SHEET, MAPS = 48, 58
"""Of the pictures beside a result."""
READ_AGAIN, READ_AGAIN_WITH_ALPHA = 3 * RGB, 6 * RGB
ENCODED, ENCODED_AS_JPEG, ENCODED_AS_WEBP = 3.0, 1.0, 13.0
"""Times the bytes of a picture: what an encoder takes, and the file with its metadata."""
SPARE = 1.05
"""Of arrays, for what is small and was not counted."""
LARGE_PART = 0.25
"""Of the need: what is worth being made smaller."""


class TooLittleMemory(CaflowError, MemoryError):
    """An image needs more memory than there is; nothing was drawn."""


@dataclass(frozen=True)
class Source:
    """What is known of an image file before it is drawn."""

    height: int
    width: int
    bits: int = 8
    has_alpha: bool = False
    is_grey: bool = False
    """Whether its result will be grey, too."""


@dataclass(frozen=True)
class Wanted:
    """What is made of an image, beside the best sample."""

    form: Form
    draw: Draw
    keeps_all: bool
    """Whether all samples are wanted at the end."""
    has_sheet: bool
    has_maps: bool
    is_read_again: bool
    """Whether the written file is scored: its pixels are not those that were drawn, for example in a JPEG."""
    suffix: str
    """Of the file, in small letters."""


@dataclass(frozen=True)
class ImageNeed:
    """What one image takes."""

    source: Source
    wanted: Wanted
    stages: tuple[Stage, ...]
    """The model's passes, and scoring."""
    bytes: int
    """Of the process at its peak, but what it had before the bundle was opened where that is unknown."""
    run_bytes: float
    """That part of them which a smaller pixel budget reduces."""
    is_measured: bool
    """Whether the memory of runs is known; else it comes on top."""

    @property
    def windows(self) -> int:
        """Of one sample, over all passes."""
        drawn = self.stages[: self.wanted.form.size.passes]
        return sum(stage.windows for stage in drawn) // self.wanted.draw.n

    @property
    def operations(self) -> float:
        """Of all stages."""
        return sum(stage.operations(stage.windows) for stage in self.stages)


def need_of_image(needs: Needs, source: Source, wanted: Wanted) -> ImageNeed:
    """What an image takes.

    Raises:
        InputError: if it cannot be cut into tiles.
    """
    size, scale, n = wanted.form.size, needs.manifest.model.scale, wanted.draw.n
    before, given = needs.before or 0, _of_source(source, wanted)
    if not size.passes:
        written = _writing(wanted, source.has_alpha) * size.height * size.width
        return ImageNeed(source, wanted, (), round(before + given + written), 0.0, True)
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
    return ImageNeed(source, wanted, stages, round(total), max(runs), loaded is not None)


def check_memory(need: ImageNeed) -> None:
    """Whether there is as much memory as an image needs beside what the process has already.

    Raises:
        TooLittleMemory
    """
    check_bytes(need.bytes, " or ".join(remedies(need)))


def check_bytes(peak: int, remedy: str) -> None:
    """Whether there is so much memory that this process can grow to that size.

    Raises:
        TooLittleMemory
    """
    available, now = available_memory(), resident_memory()
    if available is not None and now is not None and peak - now > available.bytes:
        raise TooLittleMemory(_why(peak - now, available), remedy)


def check_together(peaks: Iterable[int], processes: int) -> None:
    """Whether there is as much memory as so many processes need beside this one.

    Arguments:
        peaks: bytes of a process, of each piece of work: the largest may be done at the same time.

    Raises:
        TooLittleMemory
    """
    available = memory_of_all()
    largest = sorted(peaks, reverse=True)[:processes]
    if available is None or sum(largest) <= available.bytes or len(largest) == 1:
        return
    fitting = max(1, sum(sum(largest[: k + 1]) <= available.bytes for k in range(len(largest))))
    raise TooLittleMemory(_why(sum(largest), available), f"give --workers {fitting}")


def remedies(need: ImageNeed) -> list[str]:
    """What would make an image need less."""
    found = []
    if need.run_bytes > LARGE_PART * need.bytes:
        found.append("a smaller --pixel-budget")
    if need.wanted.keeps_all and need.wanted.draw.n > 1:
        found.append("fewer --samples")
    found.append("a smaller image")
    return [f"give {found[0]}", *found[1:]]


def _why(wanted: int, available: Available) -> str:
    return f"wanted {readable(wanted)} of memory, {readable(available.bytes)} are available (by {available.limited_by})"


def _is_scored(wanted: Wanted) -> bool:
    return wanted.is_read_again or wanted.draw.consistent or wanted.draw.judges == "image"


def _of_source(source: Source, wanted: Wanted) -> float:
    """Bytes of the file's pixels, and of its alpha at the size of the result."""
    deep = DEEP * (source.bits > 8)
    alpha = wanted.form.size.height * wanted.form.size.width if source.has_alpha else 0
    return (RGB + deep + source.has_alpha) * source.height * source.width + alpha


def _picture(wanted: Wanted) -> int:
    """Bytes of a pixel of a sample: with 16 bits it has 8 as well."""
    return RGB + DEEP * (wanted.form.bits == 16)


def _drawing(wanted: Wanted, shares: float) -> float:
    """Bytes per target pixel of samples that are finished, and of what is done with the last one."""
    draw = wanted.draw
    kept = draw.n if wanted.keeps_all or draw.judges == "image" else min(draw.n, 2)
    compared = PROJECTED if draw.consistent else DEGRADED if draw.rank == "consistency" else 0
    return kept * _picture(wanted) + (kept - 1) * shares + compared  # the last one's shares are its canvas's


def _kept(wanted: Wanted, shares: float) -> float:
    """Bytes per target pixel of results."""
    return (wanted.draw.n if wanted.keeps_all else 1) * (_picture(wanted) + shares)


def _scoring(wanted: Wanted, shares: float, is_padded: bool, has_alpha: bool) -> float:
    """Bytes per target pixel of results, and of one that is scored."""
    of_file = (READ_AGAIN_WITH_ALPHA if has_alpha else READ_AGAIN) if wanted.is_read_again else 0
    return _kept(wanted, shares) + of_file + RGB * is_padded + shares


def _writing(wanted: Wanted, has_alpha: bool) -> float:
    """Bytes per pixel of the file."""
    channels, size = 3 + has_alpha, wanted.form.bits // 8
    encoded = {".webp": ENCODED_AS_WEBP, ".jpg": ENCODED_AS_JPEG, ".jpeg": ENCODED_AS_JPEG}.get(wanted.suffix, ENCODED)
    reduced = 0 if wanted.form.is_own else 3 * size
    return reduced + channels * size * (1 + encoded) + 4 * RGB * size * has_alpha
