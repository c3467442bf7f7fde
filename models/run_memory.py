"""Measure the memory that bundles require to run, and write the result to `memory.json` in each bundle.

    python models/run_memory.py models/x4-photo.caflow

Every export measures the memory already. Use this script for older bundles, or for another version of ONNX Runtime.
"""

from pathlib import Path

import click

from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle.run_memory import write_memory
from caflow_runtime.health.measured_memory import measure_memory


@click.command()
@click.argument("bundles", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
def main(bundles: tuple[Path, ...]) -> None:
    """Measure the memory of each of the BUNDLES and write it to memory.json in the bundle."""
    for bundle in bundles:
        measured = measure_memory(bundle)
        write_memory(bundle, OnnxRuntimeCpu.name, measured.sample, measured.score)
        click.echo(f"{bundle}: {measured}")


if __name__ == "__main__":
    main()
