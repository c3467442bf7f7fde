"""Progress of `caflow image`: a line before the work, then a progress bar or, without a terminal, occasional lines."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from caflow_cli.console import CommandConsole, counted
from caflow_deploy.commands.pipes import shown
from caflow_deploy.commands.progress_reporter import ProgressReporter
from caflow_deploy.images.image_estimate import ImageEstimate, ImageProperties, OutputRequest
from caflow_deploy.images.image_headers import header_of_file
from caflow_deploy.jobs.image_job import ImageJob
from caflow_runtime.available_memory import readable
from caflow_runtime.batching.draw_options import USUAL_SAMPLES, DrawOptions
from caflow_runtime.errors import CaflowError
from caflow_runtime.file_io.paths import as_text
from caflow_runtime.pipeline.estimates import duration
from caflow_runtime.pipeline.pipeline import Pipeline

THIS_IMAGE = "this image"
"""What the bar says while samples are drawn."""


def needs_by_header(
    pipe: Pipeline, config: DrawOptions, jobs: Sequence[ImageJob], max_pixels: int
) -> dict[Path, ImageEstimate]:
    """Estimate what images require from the sizes in their file headers, assuming 8 bits.

    Returns:
        The needs by the paths of the results. Images that cannot be read according to their header, or that cannot be
        drawn, are missing: their errors are reported when they are processed.
    """
    known: dict[tuple[int, int, str], ImageEstimate | None] = {}
    found = {}
    for job in jobs:
        header = header_of_file(job.source)
        if header is None or header.pictures > 1 or math.prod(header.size) > max_pixels:
            continue
        size = header.size
        key = (*size, job.output.suffix.lower())  # everything else is the same for all images
        if key not in known:
            try:
                known[key] = job.estimate(pipe, config, ImageProperties(size.height, size.width))
            except CaflowError:
                known[key] = None
        if (need := known[key]) is not None:
            found[job.output] = need
    return found


def line_of_image(job: ImageJob, need: ImageEstimate) -> str:
    """Return the line about one image: files, sizes, tiles, memory and time."""
    windows = _windows(need.windows, need.wanted.config.number)
    return f"{names_of(job)}: {_sides(need)} {windows}, {_memory(need, 1)}{_time([need])}{_why_few(need)}"


def names_of(job: ImageJob) -> str:
    """Return the names of an image and its result."""
    return shown(f"{as_text(job.source)} → {as_text(job.output)}")


def line_of_folder(needs: dict[Path, ImageEstimate], count: int, processes: int, is_timed: bool) -> str:
    """Return the line about the unfinished images of a folder: number, largest size, tiles, memory and time.

    Arguments:
        needs: needs of the images whose size is known, by the paths of their results.
        count: number of unfinished images.
        processes: number of local processes that work at the same time.
        is_timed: whether to estimate the time, which is that of this process.
    """
    images = counted(count, "image")
    if not needs:
        return f"{images} of unknown size"
    largest = max(needs.values(), key=lambda need: need.memory)
    numbers = {need.wanted.config.number for need in needs.values()}
    windows = _windows(sum(need.windows for need in needs.values()), *numbers)
    of_processes = f" in {processes} processes" if processes > 1 else ""
    memory, time = f"{_memory(largest, processes)}{of_processes}", _time([*needs.values()]) if is_timed else ""
    if count == 1:
        return f"{images} of {_sides(largest)} {windows}, {memory}{time}"
    return f"{images} {windows}{time}; the largest, {_sides(largest)}, requires {memory}"


class ImageProgress:
    """Progress of all images of a command, whether this process or workers draw them.

    The bar always has one row. If its height changed, rich could erase other lines while they are printed.
    """

    def __init__(
        self, bar: Progress, console: CommandConsole, needs: dict[Path, ImageEstimate], count: int, before: int = 0
    ) -> None:
        """Start before the first image.

        Arguments:
            needs: needs of the unfinished images whose size is known, by the paths of their results.
            count: number of unfinished images.
            before: number of images that earlier runs have finished.
        """
        self.bar, self.console, self.needs, self.count = bar, console, needs, count
        self.pace = ProgressReporter(console.message if bar.disable else None)
        self._total = sum(need.work for need in needs.values())
        self._finished, self._images = 0, 0
        self._now: tuple[ImageEstimate, str] | None = None
        self._stage, self._windows = 0, 0
        self._is_folder = count + before > 1
        self._task = (
            bar.add_task("images", total=count + before, completed=before)
            if self._is_folder
            else bar.add_task(THIS_IMAGE, total=None)
        )

    def begins(self, job: ImageJob, need: ImageEstimate) -> None:
        """Record that this process begins to draw an image. Report its needs unless the first line included them."""
        if job.output not in self.needs and self.console.shows_messages:
            self.console.message(line_of_image(job, need))
        self._total += need.work - (self.needs[job.output].work if job.output in self.needs else 0)
        self.needs[job.output] = need
        self._now, self._stage, self._windows = (need, shown(as_text(job.source))), 0, 0

    def windows(self, done: int, count: int) -> None:
        """Record the progress of one pass of the model over the current image.

        Arguments:
            done: number of finished tiles, counted for each sample.
            count: number of all tiles of the pass.
        """
        assert self._now is not None
        need, name = self._now
        self._stage += done <= self._windows  # the count begins again with each pass
        self._windows = done
        is_drawn = self._stage + (done == count) >= need.wanted.form.size.passes
        text = _after_drawing(need.wanted) if is_drawn else THIS_IMAGE
        if self._is_folder:
            tiles = "" if is_drawn else f" {done}/{count}"
            self.bar.update(self._task, description=f"images, {text}{tiles}")
        else:
            self.bar.update(self._task, completed=done, total=count, description=text)
        work = need.work_until(self._stage, done)
        what = f"{name}: {work / need.work:.0%} done" if self.count == 1 else self._counted()
        self._tell(work, what)

    def finished(self, job: ImageJob) -> None:
        """Record that an image is finished or has failed."""
        need = self.needs.get(job.output)
        self._finished += 0 if need is None else need.work
        self._images, self._now = self._images + 1, None
        if self._is_folder:
            self.bar.update(self._task, advance=1, description="images")
        self._tell(0.0, self._counted())

    def _counted(self) -> str:
        return f"{self._images} of {self.count} images"

    def _tell(self, of_image: float, what: str) -> None:
        if self._total > 0:
            self.pace.tell((self._finished + of_image) / self._total, what)


def _after_drawing(wanted: OutputRequest) -> str:
    """Return what the command does after the samples of an image are drawn."""
    if wanted.config.rejects:
        return "judging the samples"  # and perhaps drawing others
    return "scoring the result" if wanted.is_scored else "writing the result"


def _sides(need: ImageEstimate) -> str:
    source, size = need.source, need.wanted.form.size
    return f"{source.width}×{source.height} → {size.width}×{size.height}"


def _windows(windows: int, *numbers: int) -> str:
    """Return the number of tiles, and of samples of each image, which may differ."""
    if not windows:
        return "without the model"
    samples = counted(*numbers, "sample") if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)} samples"
    return f"in {counted(windows, 'tile')} of {samples}"


def _time(needs: Sequence[ImageEstimate]) -> str:
    """Return the estimated time of all images, with a comma before it; empty if it is short."""
    work, trial = sum(need.work for need in needs), needs[0].trial
    return f", about {duration(trial.seconds(work))}" if trial.is_short_for(work) else ""


def _why_few(need: ImageEstimate) -> str:
    """Return why there are few samples, and what more would cost; empty if there are not."""
    if not need.wanted.has_few:
        return ""
    seconds = need.trial.seconds(need.work_of_usual)
    return (
        f"; {counted(need.wanted.config.number, 'sample')}, because the result is large: -n {USUAL_SAMPLES} also shows "
        f"where it is uncertain, in about {duration(seconds)}"
    )


def _memory(need: ImageEstimate, processes: int) -> str:
    return f"about {readable(processes * need.memory)} of memory"
