"""`caflow report`: a page about what `caflow filter` scored."""

from pathlib import Path

import click

from caflow_deploy.commands.options import bundle_option
from caflow_deploy.commands.terminal import end, ending_on_errors
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.bundle.reading import read_manifest, sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.judge.calibration import NAME, read_calibration
from caflow_runtime.report.html import write_report


@click.command("report")
@click.argument("scores", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A name for the page: .html.")
@bundle_option
@click.option("--force", is_flag=True, help="Overwrite a page that is there already.")
def command(scores: Path, output: Path, bundle: Path, force: bool) -> None:
    """Show SCORES, the scores.jsonl of caflow filter, beside the calibration of the bundle that made them.

    The page is one file: how many were rejected, distributions, drift, and the least typical pairs.
    """
    if output.exists() and not force:
        end(f"{output} is there already: give --force to overwrite it, or another -o")
    if output.exists() and scores.exists() and output.samefile(scores):
        end(f"{output} is the input: give another -o")
    with ending_on_errors():
        folder = find_bundle(bundle)
        read_manifest(folder)
        calibration = read_calibration(folder)
        if calibration is None:
            raise InputError(f"{folder} is not calibrated: give the --bundle that caflow filter had")
        counts = write_report(scores, calibration, output, sha256_of(folder / NAME)).counts
    click.echo(
        f"{scores} → {output}  {counts['accepted']} accepted, {counts['rejected']} rejected, {counts['error']} errors"
    )
