"""The Python and C++ readers accept the same manifests and ONNX files, and read the same values from them."""

import json
import random
from pathlib import Path
from typing import Any

from c_library import RANKS
from cpp_build import run
from mutations import changed_bytes
from reader_cases import manifest_cases
from test_bundle import a_bundle
from tiny import TINY

from caflow_runtime.bundle import manifest as bundle
from caflow_runtime.bundle.bundle_errors import BundleError
from caflow_runtime.bundle.external_data import external_files
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.onnx_fields import WrongGraph
from caflow_runtime.bundle.reading import parse_manifest

MANIFESTS, GRAPHS = 4_000, 2_000
LARGEST_GRAPH = 15_000


def in_cpp(built: Path, kind: str, cases: list[bytes], folder: Path) -> list[Any]:
    """Return what the C++ reader reads from each case, or None for a case that it rejects."""
    path = folder / "cases"
    path.write_bytes(b"".join(kind.encode() + len(case).to_bytes(8, "little") + case for case in cases))
    return [json.loads(line) for line in run(built / "tests" / "read_cases", path).splitlines()]


def meaning_of_manifest(text: bytes, folder: Path) -> Any:
    """Return what the Python reader reads from a manifest, like `in_cpp`, or None if it rejects the manifest."""

    def file(found: bundle.File) -> list[Any]:
        return [found.path, found.bytes, found.sha256]

    def ports(found: list[bundle.Port]) -> list[Any]:
        return [[port.name, port.type, port.shape] for port in found]

    try:
        manifest = parse_manifest(text, folder / MANIFEST)
    except BundleError:
        return None
    model = manifest.model
    return [
        manifest.precision,
        model.task,
        *(model.description, model.condition_color),
        *([[port.name, port.preparation] for port in model.inputs], model.can_be_tiled),
        [model.sampling.temperature, RANKS[model.sampling.rank]],
        *(model.scale, model.size_multiple, model.levels, model.channels, model.noise_channels),
        *(model.condition_channels, model.known_channels),
        [[graph.name, file(graph.file), ports(graph.inputs), ports(graph.outputs)] for graph in manifest.graphs],
        [file(found) for found in manifest.weights],
    ]


def meaning_of_graph(contents: bytes) -> Any:
    """Return the external files of a graph, or None if it is rejected. They are bytes, as a name need not be UTF-8."""
    try:
        return [list(location) for location in external_files(contents)]
    except WrongGraph:
        return None


def check_same(cases: list[bytes], ours: list[Any], theirs: list[Any]) -> None:
    assert len(ours) == len(theirs) == len(cases)
    different = [(case, mine, other) for case, mine, other in zip(cases, ours, theirs, strict=True) if mine != other]
    assert not different, f"{len(different)} of {len(cases)} cases differ; the first is {different[0]}"


def test_python_and_cpp_read_the_same_from_manifests_and_reject_the_same(built_cpp: Path, tmp_path: Path) -> None:
    cases = list(manifest_cases(a_bundle(tmp_path / "bundle"), MANIFESTS))
    ours = [meaning_of_manifest(case, tmp_path / "bundle") for case in cases]
    check_same(cases, ours, in_cpp(built_cpp, "m", cases, tmp_path))
    assert ours[0] is not None
    assert 0.05 < sum(found is not None for found in ours) / len(cases) < 0.9


def test_python_and_cpp_read_the_same_from_graphs_and_reject_the_same(built_cpp: Path, tmp_path: Path) -> None:
    graphs = [contents for path in sorted(TINY.glob("*.onnx")) if len(contents := path.read_bytes()) < LARGEST_GRAPH]
    source = random.Random(0)
    cases = [*graphs, *(changed_bytes(source, source.choice(graphs)) for _ in range(GRAPHS))]
    ours = [meaning_of_graph(case) for case in cases]
    check_same(cases, ours, in_cpp(built_cpp, "g", cases, tmp_path))
    assert ours[: len(graphs)].count([]) == 3  # degrade, dequantize and to_image have no external file
    assert None not in ours[: len(graphs)]
    assert 0.05 < sum(found is not None for found in ours) / len(cases) < 0.95
