"""`caflow info`: show the contents of a bundle."""

from pathlib import Path

import click

from caflow_cli.console import command_console
from caflow_deploy.commands.pipeline_options import bundle_argument, verbose_option
from caflow_runtime.bundle import engine_sets as engines
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.bundle.engine_sets import EngineSet
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import files_of
from caflow_runtime.bundle.reading import read_manifest, verify_files


@click.command("info")
@bundle_argument
@verbose_option
@click.option("--json", "as_json", is_flag=True, help="Print the manifest file unchanged.")
def command(bundle: Path, as_json: bool) -> None:
    """Show the contents of BUNDLE.

    These are its model, graphs and TensorRT engines. All files are checked against their hashes first. With -v, the
    errors that were measured when it was exported follow.
    """
    console = command_console()
    console.require_stdout()
    bundle = find_bundle(bundle)
    manifest = read_manifest(bundle)
    verify_files(bundle, manifest)
    sets = list(engines.find(bundle))
    if as_json:
        console.as_json = True
        console.result((bundle / MANIFEST).read_text())
        return
    model, source = manifest.model, manifest.source
    passed = sum(one.max_error <= one.tolerance for one in manifest.verification)
    size = sum(file.bytes for file in files_of(manifest)) / 2**20
    rows = [
        ["task", f"{model.task} ×{model.scale}: {model.description}"],
        ["best used with", f"temperature {model.sampling.temperature:g}, rank {model.sampling.rank}"],
        [
            "model",
            f"{model.levels} levels, {model.dependencies} dependencies" + (", residual" if model.residual else ""),
        ],
        ["sizes", f"results are padded to multiples of {model.size_multiple}"],
        ["precision", manifest.precision],
        ["size", f"{size:.1f} MiB in {len(files_of(manifest))} files, all with the hashes of the manifest"],
        ["checkpoint", f"{source.checkpoint_format}, SHA-256 {source.checkpoint_sha256[:12]}…"],
        ["verified", f"{passed} of {len(manifest.verification)} checks (all with -v)"],
        ["exported by", f"caflow-deploy {source.exporter_version}"],
    ]
    console.table(["", str(bundle)], rows)
    graphs = [[g.name, f"{g.operations_per_pixel / 1e3:.1f}", f"{g.file.bytes / 1024:.0f}"] for g in manifest.graphs]
    console.table(["graph", "thousand operations per pixel", "KiB"], graphs)
    if console.is_verbose:
        console.table(
            ["verified", "what", "largest error", "allowed"],
            [[m.graph, m.what, f"{m.max_error:.1e}", f"{m.tolerance:.0e}"] for m in manifest.verification],
        )
    if sets:
        console.table(
            ["engines", "for", "largest", "MiB", "state"],
            [_engine_row(found.folder.name, found.engines, found.stale) for found in sets],
        )


def _engine_row(name: str, engines: EngineSet | None, stale: str | None) -> list[str]:
    if engines is None:
        return [name, "", "", "", f"stale: {stale}"]
    largest = f"{engines.profile.batch_size} × {engines.profile.width}×{engines.profile.height}"
    size = sum(engine.file.bytes for engine in engines.engines) / 2**20
    target = engines.gpu or f"compute capability {engines.compute_capability}"
    return [
        name,
        target,
        largest,
        f"{size:.1f}",
        f"stale: {stale}" if stale else "current, verified" if engines.verification else "current, not verified",
    ]
