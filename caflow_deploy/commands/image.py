"""`caflow image`: draw N samples of each image in files and folders, and write the best one."""

import sys
from pathlib import Path
from typing import Any

import click

from caflow_cli.command_error import FAILED
from caflow_cli.console import command_console
from caflow_cli.field_options import field_option, field_options, gathered
from caflow_cli.option_values import FilePath
from caflow_cli.short_help import ShortHelp
from caflow_deploy.commands.drawing_options import (
    assume_option,
    drawing_options,
    hints_option,
    mask_marks_option,
    rejecting_options,
    result_options,
    size_options,
)
from caflow_deploy.commands.execution_options import workers_options
from caflow_deploy.commands.image_models import bundles_option
from caflow_deploy.commands.image_plan import ImageOptions, plan_images
from caflow_deploy.commands.pipeline_options import (
    dry_run_option,
    json_option,
    max_pixels_option,
    quiet_option,
    running_options,
    verbose_option,
)
from caflow_deploy.commands.pipes import is_pipe, piped_images
from caflow_deploy.images.image_files import MAX_BYTES_PER_PIXEL, MAX_OTHER_BYTES
from caflow_deploy.jobs.result_naming import FORMATS
from caflow_runtime.batching.draw_options import DrawOptions


@click.command(
    "image",
    cls=ShortHelp,
    first=("output", "bundles", "n", "scale", "width", "mask", "hints", "dry_run", "force"),
)
@click.argument("inputs", metavar="IN...", type=FilePath(), nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=FilePath(path_type=Path),
    required=True,
    help="Folder for the results; or a file name, for a single image; or - for standard output.",
)
@bundles_option
@drawing_options
@field_option(DrawOptions, "consistent")
@size_options
@click.option(
    "--bits",
    type=click.Choice(["8", "16"]),
    callback=lambda _context, _option, text: None if text is None else int(text),
    help="Bits per channel of the results; 16 requires PNG or TIFF.  [default: as in IN, if the format of the result "
    "supports it]",
)
@click.option(
    "--mask",
    type=FilePath(path_type=Path),
    help="Inpainting only: image of the size of IN that marks what to fill: white on black, paint on a transparent "
    "layer, or a copy of IN with that part erased; or a folder with one such image for each input image, of the same "
    "name.",
)
@click.option(
    "--hints",
    type=FilePath(path_type=Path),
    help="Colorization with hints only: image of the size of IN with dots or strokes of colour on a transparent "
    "background; or a folder with one such image for each input image, of the same name.",
)
@hints_option
@mask_marks_option
@assume_option
@rejecting_options
@field_options(DrawOptions, "redraws", "judge")
@result_options
@running_options
@workers_options
@max_pixels_option
@json_option
@verbose_option
@quiet_option
@dry_run_option
@click.option("--force", is_flag=True, help="Start again, and overwrite existing results.")
def command(inputs: tuple[str, ...], output: Path, dry_run: bool, force: bool, **given: Any) -> None:
    """Enlarge, colorize or inpaint the images IN, as the model does, and write the best of several samples of each.

    IN are files, folders with everything below them, or globs; - is standard input. Inside a folder, links to folders
    are not followed, and folders with results of earlier jobs are skipped. Write -- before an IN that begins with a
    dash. HEIC images require the package pillow-heif.

    Without --model, a model is chosen for each image by its pixels, and a line on standard error says why. With --mask
    the model is inpaint-photo, and with --hints or --suggest-hints colour-hints.

    If -o names a folder, each result has the format of its input; if it names a file, its extension chooses the format
    (.png, .jpg, .webp, .tiff, .bmp). Metadata are copied as far as both formats support them. If two results would have
    the same name, the second name also gets the extension of its input, the name of its folder, or a number.

    In a folder, OUT/results.jsonl has a line for each result. The same command resumes after a stop. An image that
    fails is reported, and the others are still processed; the exit code is then 1. It is also 1 if --otherwise drop
    leaves no file for a single image.
    """
    console, options = command_console(), gathered(ImageOptions, given)
    if is_pipe(output) and console.as_json and not dry_run:
        console.shows_messages = False  # standard error has the JSON objects
    options.check(output)
    most_bytes = MAX_BYTES_PER_PIXEL * options.max_pixels + MAX_OTHER_BYTES
    piped = piped_images(inputs, output, FORMATS.get(options.files.format, FORMATS["png"]), most_bytes)
    inputs, output = click.get_current_context().with_resource(piped)
    plan = plan_images(inputs, output, options, force, console)
    if dry_run:
        plan.list_all()
        return
    plan.draw()
    plan.tally.end()
    if plan.is_single and plan.tally.outcomes["dropped"]:
        sys.exit(FAILED)  # the file that -o names was not written
