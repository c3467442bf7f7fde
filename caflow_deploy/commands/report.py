"""`caflow report`: an HTML report about the verdicts of `caflow filter`."""

from pathlib import Path

import click

from caflow_cli.command_error import CommandError
from caflow_cli.console import command_console, counted
from caflow_cli.option_values import FilePath
from caflow_deploy.commands.pipeline_options import bundle_option
from caflow_deploy.filtering.report import write_report
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.bundle.reading import read_manifest, sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.ood.calibration import NAME, read_calibration


@click.command("report")
@click.argument("scores", type=FilePath(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=FilePath(path_type=Path),
    help="HTML file to write.  [default: report.html in the folder of SCORES]",
)
@bundle_option
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def command(scores: Path, output: Path | None, bundle: Path, force: bool) -> None:
    """Write an HTML report about SCORES, a scores.jsonl of caflow filter. Requires the extra report.

    The report compares the scores with the calibration of the bundle, so --model must be the one that caflow filter
    used. It is a single file with the number of rejected pairs, distributions, drift, and the least typical pairs.
    """
    console = command_console()
    output = output or scores.with_name("report.html")
    if output.exists() and not force:
        raise CommandError(f"{output} already exists; use --force to overwrite it, or choose another -o")
    if output.exists() and scores.exists() and output.samefile(scores):
        raise CommandError(f"{output} is the input file; choose another -o")
    folder = find_bundle(bundle)
    read_manifest(folder)
    calibration = read_calibration(folder)
    if calibration is None:
        raise InputError(f"{folder} is not calibrated; give the --model that caflow filter used")
    counts = write_report(scores, calibration, output, sha256_of(folder / NAME)).counts
    unjudged = f"{counts['unjudged']} unjudged, " if counts["unjudged"] else ""
    console.result(
        f"{scores} → {output}  {counts['accepted']} accepted, {counts['rejected']} rejected, {unjudged}"
        f"{counted(counts['error'], 'error')}"
    )
