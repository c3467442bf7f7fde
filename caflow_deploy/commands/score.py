"""`caflow score`: the likelihood of an image, given its condition."""

import json
from pathlib import Path

import click

from caflow_deploy.commands.options import bundle_option, json_option, open_pipeline, running_options
from caflow_deploy.commands.terminal import ending_on_errors, print_table, progress_bar


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.argument("condition", type=click.Path(path_type=Path))
@bundle_option
@running_options
@json_option
def score(
    target: Path,
    condition: Path,
    bundle: Path,
    backend: str,
    threads: int,
    pixel_budget: int | None,
    overlap: int | None,
    as_json: bool,
) -> None:
    """How likely TARGET is, given CONDITION: log p(TARGET | CONDITION), in total and per level."""
    pipe = open_pipeline(bundle, backend, threads, pixel_budget, overlap)
    with ending_on_errors(), progress_bar() as progress:
        from caflow_runtime.images import read_image

        pair = [read_image(path) for path in (target, condition)]
        for path, file in zip((target, condition), pair, strict=True):
            if file.bits == 16:
                click.echo(f"{path}: 16 bits count as 8", err=True)
            if file.alpha is not None:
                click.echo(f"{path}: transparency does not count", err=True)
        task = progress.add_task("scoring")

        def show(done: int, count: int) -> None:
            progress.update(task, completed=done, total=count)

        result = pipe.score(pair[0].rgb, pair[1].rgb, show)
    per_level = result.per_level[0].tolist()
    total, bits = float(result.log_likelihood[0]), float(result.bits_per_dim[0])
    if as_json:
        names = {"target": str(target), "condition": str(condition)}
        values = {"log_likelihood": total, "log_likelihood_per_level": per_level, "bits_per_dim": bits}
        click.echo(json.dumps(names | values, allow_nan=False))
        return
    share = bits / total if total else 0.0
    rows = [[f"level {j}", f"{value:.2f}", f"{share * value:.4f}"] for j, value in enumerate(per_level)]
    print_table(["", "log-likelihood, nats", "bits/dim"], [*rows, ["total", f"{total:.2f}", f"{bits:.4f}"]])
