"""Outcomes of images: a line for each finished image, a summary, and the exit code."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import click
from msgspec import UnsetType

from caflow_cli.command_error import FAILED, CommandError
from caflow_cli.console import CommandConsole, counted
from caflow_cli.option_values import in_words_of
from caflow_deploy.commands.pipes import as_given, shown
from caflow_deploy.images.image_result import verdict_text
from caflow_deploy.jobs.image_report import ImageReport, ModelImage
from caflow_deploy.jobs.process_image import ImageOutcome
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.file_io.paths import as_text

VISIBLE_BLUR, VISIBLE_NOISE, VISIBLE_JPEG, VISIBLE_CRF = 0.5, 1.5, 97, 8
"""Degradations that lines name: σ of blur in pixels of the result and of noise in grey levels, and CRF, from these on;
JPEG quality up to this one."""
MAX_NAMED = 20
"""Maximum number of failed files, and of unreadable folders, that the last line names."""


class OutcomeCounter:
    """Counter of outcomes that also reports them."""

    def __init__(self, total: int, config: DrawOptions, console: CommandConsole) -> None:
        """Start before the first image.

        Arguments:
            total: number of all images.
            config: settings that each image is drawn with.
        """
        self.total, self.config, self.console = total, config, console
        self.outcomes: Counter[str] = Counter()
        self.failed: list[str] = []
        self.unreadable: list[str] = []

    def take(self, done: ImageOutcome) -> None:
        """Count and report one image."""
        if done.wrong is not None:
            if not done.is_dropped:
                self.failed.append(shown(as_text(done.job.source)))
            self.outcomes["dropped"] += done.is_dropped
            self.console.error(in_words_of(click.get_current_context().command, shown(done.wrong)))
        elif done.report is not None:
            self.outcomes[done.report.outcome] += 1
            self.console.result(self._line(done.report, done.seconds))
            self.warn(done.report.input, done.report.warnings or ())

    def warn(self, source: Path | str, warnings: Iterable[str]) -> None:
        """Report warnings about an image, each once."""
        for warning in dict.fromkeys(warnings):
            self.console.warning(shown(f"{source}: {warning}"))

    def _line(self, report: ImageReport, seconds: float | None) -> str:
        return _json(report) if self.console.as_json else line(report, seconds, self.console.is_verbose)

    def take_unreadable(self, error: OSError) -> None:
        """Report a folder that cannot be read. Its images are skipped."""
        self.unreadable.append(as_text(error.filename))
        self.console.error(f"{as_text(error.filename)} cannot be read: {error.strerror}: its images are skipped")

    def warn_of_changed(self, results: Sequence[Path]) -> None:
        """Warn of results that another program has changed or replaced. They are kept."""
        names = _listed([as_text(path) for path in results], "")
        number = counted(len(results), "result")
        self.console.warning(f"kept {number} of another size than written; to make results again, remove them: {names}")

    def end(self) -> None:
        """Report how many images are untypical or unjudged.

        Raises:
            CommandError: if some images failed.
        """
        if self.config.rejects:
            dropped = self.outcomes["dropped"]
            became = {"drop": "dropped", "bicubic": "bicubic"}.get(self.config.otherwise, "marked")
            untypical = dropped or self.outcomes["rejected"] + self.outcomes["bicubic"]
            what = f", {became}" if untypical else ""
            verb = "is" if 1 in (untypical, self.total) else "are"
            unjudged = self.outcomes["unjudged"]
            rest = f"; {unjudged} could not be judged: the calibration knows no such images" if unjudged else ""
            self.console.warning(f"{untypical} of {counted(self.total, 'image')} {verb} untypical{what}{rest}")
        self.end_of_failed()

    def end_of_failed(self) -> None:
        """Raise a `CommandError` if some images failed, or some folders cannot be read."""
        failures = []
        if self.failed:
            failures.append(f"{len(self.failed)} of {counted(self.total, 'image')} failed: {_listed(self.failed)}")
        if self.unreadable:
            failures.append(f"{counted(len(self.unreadable), 'folder')} cannot be read: {_listed(self.unreadable)}")
        if failures:
            raise CommandError("; ".join(failures), FAILED)


def _listed(names: list[str], where: str = ", named above") -> str:
    """Return the first names of a list, and how many more there are."""
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED] + ([f"and {more} more{where}"] if more > 0 else []))


def _json(report: ImageReport) -> str:
    """Return the JSON object about a finished image, with its paths as given."""
    paths = {"input": as_given(report.input), "output": as_given(report.output)}
    return json.dumps(report.fields() | paths, allow_nan=False)


def line(report: ImageReport, seconds: float | None = None, is_verbose: bool = False) -> str:
    """Return the line about a finished image, for people.

    Arguments:
        seconds: time that it took.
        is_verbose: whether to add likelihoods, which sample it is, and what the model was told.
    """
    names = f"{shown(report.input)} → {shown(report.output)}"
    if report.outcome == "bicubic":
        return f"{names}  untypical: replaced by the enlarged input"
    if report.outcome == "reduced":
        return f"{names}  not enlarged: the input is not smaller than the result, so there are no samples"
    of_model = "" if isinstance(report.model_because, UnsetType) else f" of {report.model}"
    parts = [f"{report.output_width}×{report.output_height}{of_model}"]
    if not isinstance(report.filled, UnsetType):
        parts.append(f"fills {100 * report.filled:.1f} % of the image")
    parts += _verdict(report)
    if report.input_bits > report.output_bits:
        parts.append(f"reduced from {report.input_bits} to {report.output_bits} bits")
    if seconds is not None:
        parts.append(f"{seconds:.1f} s")
    return f"{names}  {', '.join([*parts, *(_figures(report) if is_verbose else [])])}"


def _verdict(report: ImageReport) -> list[str]:
    """Return the verdict on the image if it was judged as written, else on the sample; nothing without one."""
    if isinstance(value := report.image_typicality, float):
        return [verdict_text(report.outcome, value, "image typicality")]
    if isinstance(value := report.sample_typicality, float):
        return [verdict_text(report.outcome, value)]
    return []


def _figures(report: ImageReport) -> Iterator[str]:
    """Yield what only some people want to know."""
    yield f"{report.bits_per_dim:.3f} bits/dim"
    yield f"sample {report.sample + 1} of {report.n}"
    if isinstance(report.image_typicality, float) and isinstance(report.sample_typicality, float):
        yield f"sample typicality {report.sample_typicality:.3f}"
    if not isinstance(report.consistency_db, UnsetType):
        yield f"consistency {report.consistency_db:.1f} dB"
    if isinstance(of := report.likelihood_of, ModelImage):
        yield f"likelihood of the model's {of.width}×{of.height} image with {of.bits} bits"
    if not isinstance(report.degradation, UnsetType):
        yield assumed(report.degradation)


def assumed(degradation: Mapping[str, float]) -> str:
    """Return what a model was told of how its input was degraded, without what can hardly be seen."""
    visible = {
        "blur": ("blur σ {:.1f}", degradation["blur"] >= VISIBLE_BLUR),
        "noise": ("noise σ {:.0f}", degradation["noise"] >= VISIBLE_NOISE),
        "jpeg": ("JPEG quality {:.0f}", degradation["jpeg"] <= VISIBLE_JPEG),
        "video": ("video CRF {:.0f}", degradation["video"] >= VISIBLE_CRF),
    }
    texts = [text.format(degradation[name]) for name, (text, is_visible) in visible.items() if is_visible]
    return f"assumed {' and '.join(texts) or 'clean'}"
