"""What became of images: a line for each as it is done, a summary, and the exit code."""

import json
import sys
from collections import Counter

import click
from msgspec import UnsetType

from caflow_deploy.commands.pace import Saying
from caflow_deploy.commands.terminal import FAILED, end
from caflow_runtime.jobs.images import Done, ImageReport, ModelImage
from caflow_runtime.path_text import as_text
from caflow_runtime.rows.draw import Draw

MOST_NAMED = 20
"""Files in the last line."""


class Tally:
    """Counts images and reports them."""

    def __init__(self, total: int, draw: Draw, as_json: bool, saying: Saying) -> None:
        """`draw`: of each image."""
        self.total, self.draw, self.as_json, self.saying = total, draw, as_json, saying
        self.outcomes: Counter[str] = Counter()
        self.failed: list[str] = []
        self.stdout = sys.stdout  # kept: Ray's messages go elsewhere in the meantime
        self.messages = sys.stderr if as_json else sys.stdout

    def take(self, done: Done) -> None:
        """Report one image."""
        if done.wrong is not None:
            if not done.is_dropped:
                self.failed.append(as_text(done.job.source))
            self.outcomes["dropped"] += done.is_dropped
            click.echo(f"caflow: {done.wrong}", err=True)
        elif done.report is not None:
            self.outcomes[done.report.outcome] += 1
            text = json.dumps(done.report.fields(), allow_nan=False) if self.as_json else line(done.report, self.draw.n)
            click.echo(text, file=self.stdout)
            for warning in done.report.warnings or ():
                self.saying.warn(f"{done.report.input}: {warning}")

    def end(self) -> None:
        """Say how many are untypical, and end the command where some failed."""
        if self.draw.reject:
            dropped = self.outcomes["dropped"]
            became = {"error": "dropped", "bicubic": "bicubic"}.get(self.draw.reject.otherwise, "marked")
            untypical = dropped or self.outcomes["best"] + self.outcomes["bicubic"]
            what = f", {became}" if untypical else ""
            self.saying.warn(f"{untypical} of {self.total} images are untypical{what}")
        self.end_of_failed()

    def end_of_failed(self) -> None:
        """End the command where some failed."""
        if self.failed:
            more = len(self.failed) - MOST_NAMED
            names = self.failed[:MOST_NAMED] + ([f"and {more} more, named above"] if more > 0 else [])
            end(f"{len(self.failed)} of {self.total} images failed: {', '.join(names)}", FAILED)


def line(report: ImageReport, n: int) -> str:
    """For people."""
    names = f"{report.input} → {report.output}"
    if report.outcome == "bicubic":
        return f"{names}  untypical: the input, enlarged"
    if report.outcome == "reduced":
        return f"{names}  the input, reduced: it is not smaller than the result"
    parts = [f"{report.bits_per_dim:.3f} bits/dim", f"sample {report.sample} of {n}"]
    for name in ("sample", "image"):
        if isinstance(value := getattr(report, f"{name}_typicality"), float):
            parts.append(f"{name} typicality {value:.3f}{_verdict(report) if report.judge == name else ''}")
    if not isinstance(report.consistency_db, UnsetType):
        parts.append(f"{report.consistency_db:.1f} dB to the input")
    if isinstance(of := report.likelihood_of, ModelImage):
        parts.append(f"likelihood of the model's {of.width}×{of.height} of {of.bits} bits")
    if report.input_bits > report.output_bits:
        parts.append(f"{report.input_bits} bits became {report.output_bits}")
    return f"{names}  {', '.join(parts)}"


def _verdict(report: ImageReport) -> str:
    """Of the typicality that was asked about."""
    return {"best": " (untypical)", "accepted": " (accepted)"}.get(report.outcome, "")
