"""`caflow score`: compute the likelihood of an existing target, given its condition."""

import json
from pathlib import Path
from typing import Any

import click

from caflow_cli.console import CommandConsole, command_console
from caflow_cli.field_options import gathered
from caflow_cli.option_values import FilePath
from caflow_deploy.commands.drawing_options import mask_marks_option
from caflow_deploy.commands.execution_options import ExecutionOptions
from caflow_deploy.commands.pipeline_options import bundle_option, json_option, max_pixels_option, running_options
from caflow_deploy.images.image_files import read_image, write_image
from caflow_deploy.images.input_files import CompletedImage
from caflow_deploy.images.result_pictures import pictures
from caflow_runtime.file_io.paths import as_text
from caflow_runtime.image_arrays import check_pair
from caflow_runtime.ood.typicality import reason
from caflow_runtime.pipeline.named_inputs import check_takes
from caflow_runtime.pipeline.results import Score


@click.command("score")
@click.argument("target", type=FilePath(path_type=Path))
@click.argument("condition", type=FilePath(path_type=Path))
@bundle_option
@click.option(
    "--maps", metavar="DIR", type=FilePath(path_type=Path), help="Write maps of where TARGET is unlikely to DIR."
)
@click.option("--mask", type=FilePath(path_type=Path), help="Inpainting only: mask of what was filled in CONDITION.")
@mask_marks_option
@click.option(
    "--hints", type=FilePath(path_type=Path), help="Colorization with hints only: picture of the hints for CONDITION."
)
@running_options
@max_pixels_option
@json_option
def command(target: Path, condition: Path, maps: Path | None, max_pixels: int, **given: Any) -> None:
    """Compute how likely the image TARGET is, given the image CONDITION.

    Prints log p(TARGET | CONDITION), in nats and in bits/dim, in total and for each level. If the bundle is calibrated,
    it also prints the typicality of TARGET among true images. Both images count with 8 bits per channel, and without
    transparency.
    """
    console = command_console()
    console.require_stdout()
    pipe = gathered(ExecutionOptions, given).open_pipeline()
    console.message(f"scored by the model {pipe.folder.stem}; --model names another one")
    with console.progress_bar() as bar:
        pair = [read_image(path, max_pixels) for path in (target, condition)]
        for path, file in zip((target, condition), pair, strict=True):
            if file.bits == 16:
                console.message(f"{path}: scored with 8 of its 16 bits")
            if file.alpha is not None:
                console.message(f"{path}: scored without its transparency")
        check_pair(str(target), pair[0].rgb, pair[1].rgb, pipe.manifest.model.scale)
        beside = {name: given[name] for name in ("mask", "hints") if given[name] is not None}
        for name in beside:
            check_takes(pipe.manifest.model, name)
        image = CompletedImage.read(pipe, pair[1], beside, given["mask_marks"])
        task = bar.add_task("scoring")

        def show(done: int, count: int) -> None:
            bar.update(task, completed=done, total=count)

        result = pipe.score(pipe.target_of(pair[0].rgb), image.condition, show)
        if maps:
            maps.mkdir(parents=True, exist_ok=True)
            for name, picture, _, _ in pictures(result):
                write_image(maps / f"{target.stem}-{name}.png", picture)
    _print_score(console, result, as_text(target), as_text(condition))


def _print_score(console: CommandConsole, result: Score, target: str, condition: str) -> None:
    per_level = result.per_level[0].tolist()
    total, bits = float(result.log_likelihood[0]), float(result.bits_per_dim[0])
    typical = result.image_typicality
    is_judged = typical is not None and bool(typical.is_judged[0])
    if typical is not None and not is_judged:
        console.warning(f"unjudged: {reason(typical.of(0))}")
    known = float(typical.value[0]) if typical and is_judged else None
    known_per_level = typical.per_level[0].tolist() if typical and is_judged else []
    if console.as_json:
        names = {"target": target, "condition": condition}
        values = {"log_likelihood": total, "log_likelihood_per_level": per_level, "bits_per_dim": bits}
        judged = {} if known is None else {"image_typicality": known, "image_typicality_per_level": known_per_level}
        console.result(json.dumps(names | values | judged, allow_nan=False))
        return
    rows = [
        [f"level {j}", f"{nats:.2f}", f"{part:.4f}"]
        for j, (nats, part) in enumerate(zip(per_level, result.bits_per_dim_per_level[0], strict=True))
    ]
    rows.append(["total", f"{total:.2f}", f"{bits:.4f}"])
    columns = ["", "log-likelihood, nats", "bits/dim"]
    if known is not None:
        columns.append("image typicality")
        rows = [[*row, f"{value:.3f}"] for row, value in zip(rows, [*known_per_level, known], strict=True)]
    console.table(columns, rows)
