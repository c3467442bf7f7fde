"""`caflow-export`: a checkpoint to a bundle."""

import os
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The bundle's folder.  [default: NAME.caflow]")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    default="fp32",
    show_default=True,
    help="Of the networks; the flow's state stays float32.",
)
@click.option("--force", is_flag=True, help="Replace a bundle that is there already.")
def main(checkpoint: Path, output: Path | None, precision: str, force: bool) -> None:
    """Export CHECKPOINT as a verified bundle.

    CHECKPOINT is a file of caflow-train or of the public CAFLOW implementation, or x4-photo, the built-in model.

    Exit codes: 0 the bundle is written and verified, 1 the graphs do not compute what the model does, 2 wrong use.
    """
    try:
        from caflow_export.export import ExportError, export
        from caflow_export.verify import VerificationFailed
        from caflow_training.checkpoint import CheckpointError, ConfigError
    except ModuleNotFoundError as error:
        print(f"caflow-export needs {error.name}: pip install 'caflow-deploy[export]'", file=sys.stderr)
        sys.exit(2)
    console = Console(stderr=True)
    columns = (TextColumn("tracing {task.description:14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("")
            report = export(
                checkpoint,
                output,
                precision,  # type: ignore[arg-type]
                force,
                processes=min(2, os.cpu_count() or 1),
                say=lambda line: console.print(line, highlight=False, soft_wrap=True),
                show=lambda graph, done, count: progress.update(task, description=graph, completed=done, total=count),
            )
    except (CheckpointError, ConfigError, ExportError) as error:
        print(f"caflow-export: {error}", file=sys.stderr)
        sys.exit(2)
    except VerificationFailed as error:
        print(f"caflow-export: no bundle was written: {error}", file=sys.stderr)
        sys.exit(1)
    click.echo(f"{report.path}  {report.bytes / 2**20:.1f} MiB, {report.share_of_parameters:.2f} × the parameters")


if __name__ == "__main__":
    main()
