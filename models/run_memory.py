"""Measures again what memory runs of bundles take, and writes it into each as `memory.json`.

    python models/run_memory.py models/x4-photo.caflow

An export does this by itself; here it is for bundles that were exported before, or for another ONNX Runtime.
"""

from pathlib import Path

import click

from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle.run_memory import write_memory
from caflow_runtime.health.measured_memory import measure_memory


@click.command()
@click.argument("bundles", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
def main(bundles: tuple[Path, ...]) -> None:
    """Write memory.json into BUNDLES."""
    for bundle in bundles:
        measured = measure_memory(bundle)
        write_memory(bundle, OnnxRuntimeCpu.name, measured.sample, measured.score)
        click.echo(f"{bundle}: {measured}")


if __name__ == "__main__":
    main()
