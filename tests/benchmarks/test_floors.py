"""Floors of the times on a CPU: the work of a model's graphs."""

from pathlib import Path

from floors import work_of

from caflow_runtime.bundle.reading import read_manifest

SAMPLES = 3


def test_all_operations_of_the_graphs_are_counted(least_exported: Path) -> None:
    manifest, size = read_manifest(least_exported), (16, 32)
    work = work_of(least_exported, manifest.model, SAMPLES, size)
    levels = range(manifest.model.levels)
    assert set(work) == {"encode", *(f"{name}_{j}" for name in ("decode", "reverse") for j in levels)}
    for graph in manifest.graphs:
        if graph.name in work:
            times = 1 if graph.name == "encode" else SAMPLES
            counted = sum(work[graph.name].operations.values())
            assert counted == times * graph.operations_per_pixel * size[0] * size[1]
