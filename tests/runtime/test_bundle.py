"""The format of bundles: manifests are read strictly, and each kind of error has its own exception."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from caflow_runtime.bundle import manifest as bundle
from caflow_runtime.bundle.bundle_errors import (
    BundleError,
    ManifestTooLarge,
    MissingFile,
    MissingGraph,
    NoBundle,
    PathOutside,
    TruncatedFile,
    UnknownFormat,
    WrongHash,
    WrongManifest,
    WrongShape,
)
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest_checks import needed_outputs
from caflow_runtime.bundle.reading import MANIFEST_BYTES, describe_file, read_manifest, verify_files, write_manifest

Manifest = dict[str, Any]

SHAPES: dict[str, list[int | str]] = {
    "prepared": ["images", "4*h", "4*w", 3],
    "pixels": ["items", "2*h", "2*w", 3],
    "integers": ["items", "2*h", "2*w", 3],
    "log_likelihood_map": ["items", "h", "w"],
    "degraded": ["images", "h", "w", 3],
}
PRODUCER_NAME = 2
"""Number of a field of ONNX files that does not affect the computation."""


def field(number: int, contents: bytes) -> bytes:
    """Return a field of a protocol buffer that contains a string or a message of less than 128 bytes."""
    assert number < 16
    assert len(contents) < 128
    return bytes([number << 3 | 2, len(contents)]) + contents


def a_bundle(folder: Path) -> Manifest:
    """Write a bundle of one level whose graphs compute nothing, and return its manifest as JSON."""
    folder.mkdir(exist_ok=True)
    inputs = {
        "encode": [bundle.Port("condition", "uint8", ["images", "4*h", "4*w", 3])],
        "decode_0": [bundle.Port("z", "float32", ["items", 48, "h", "w"])],
        "degrade": [bundle.Port(name, "float32", ["images", "h", "w", 3]) for name in ("target", "condition")],
    }
    graphs = []
    for name, outputs in needed_outputs(1).items():
        (folder / f"{name}.onnx").write_bytes(field(PRODUCER_NAME, name.encode()))
        given = [bundle.Port(key, kind, SHAPES.get(key, ["items", 12, "h", "w"])) for key, kind in outputs.items()]  # type: ignore[arg-type]
        file = describe_file(folder, f"{name}.onnx")
        graphs.append(bundle.Graph(name, file, inputs.get(name, []), given, 0.0))
    (folder / "weights.bin").write_bytes(bytes(100))
    manifest = bundle.Manifest(
        format=bundle.FORMAT,
        format_version=bundle.FORMAT_VERSION,
        precision="fp32",
        model=bundle.Model(
            task="image-to-image",
            description="Turn one image into another",
            condition_color="rgb",
            keeps_gray=False,
            inputs=[],
            can_be_tiled=True,
            sampling=bundle.DEFAULT_SAMPLING,
            scale=1,
            size_multiple=4,
            levels=1,
            channels=3,
            residual=False,
            dependencies="unshared",
            noise_channels=[[48]],
        ),
        graphs=graphs,
        weights=[describe_file(folder, "weights.bin")],
        verification=[],
        source=bundle.Source("00", "caflow-checkpoint", {}, "0"),
    )
    write_manifest(folder, manifest)
    contents: Manifest = json.loads((folder / MANIFEST).read_text())
    return contents


def test_what_is_written_is_read(tmp_path: Path) -> None:
    a_bundle(tmp_path)
    manifest = read_manifest(tmp_path)
    verify_files(tmp_path, manifest)
    assert manifest.graph("decode_0").inputs[0].shape == ["items", 48, "h", "w"]
    assert len(bundle.files_of(manifest)) == 9


def _set(**changes: Any) -> Callable[[Manifest], None]:
    return lambda manifest: manifest.update(changes)


def _set_in(part: str, **changes: Any) -> Callable[[Manifest], None]:
    return lambda manifest: manifest[part].update(changes)


def _file(path: str) -> Callable[[Manifest], None]:
    return lambda manifest: manifest["weights"][0].update(path=path)


def _degrade(port: str, shape: list[int | str]) -> Callable[[Manifest], None]:
    """Give one input of the graph `degrade` another shape."""

    def change(manifest: Manifest) -> None:
        graph = next(graph for graph in manifest["graphs"] if graph["name"] == "degrade")
        next(one for one in graph["inputs"] if one["name"] == port)["shape"] = shape

    return change


WRONG_MANIFESTS: list[tuple[Callable[[Manifest], None], type[BundleError], str]] = [
    (_set(format="onnx"), UnknownFormat, "format 'caflow-bundle' version 3[,;] got 'onnx'"),
    (_set(format_version=2), UnknownFormat, "got 'caflow-bundle' version 2: use the version"),
    (_set(extra=1), WrongManifest, "unknown field `extra`"),
    (_set(precision="fp8"), WrongManifest, "fp8"),
    (_set_in("model", levels="one"), WrongManifest, "levels"),
    (lambda manifest: manifest["model"].pop("scale"), WrongManifest, "scale"),
    (lambda manifest: manifest["graphs"].pop(0), MissingGraph, "the graph 'encode'"),
    (_set_in("model", levels=2, size_multiple=8), MissingGraph, "with 2 levels .*the graph 'decode_1'"),
    (_set_in("model", noise_channels=[[24]]), WrongShape, r"decode_0 .* ?z of shape \['items', 24, 'h', 'w'\]"),
    (_set_in("model", noise_channels=[]), WrongShape, "noise_channels .*1 (entries|levels)"),
    (_set_in("model", size_multiple=8), WrongShape, "condition"),
    (_set_in("model", size_multiple=6), WrongManifest, "size_multiple .*of 4 and of 1[,;] got 6"),
    (_set_in("model", scale=0), WrongManifest, "scale"),
    (_set_in("model", levels=0), WrongManifest, "levels"),
    (_set_in("model", condition_color="cmyk"), WrongManifest, "condition_color|cmyk"),
    (_set_in("model", inputs=[{"name": "mask", "preparation": "white"}]), WrongManifest, "preparation|white"),
    (_set_in("model", condition_channels=4), WrongShape, "the graph encode must have condition"),
    (_set_in("model", condition_channels=4, condition_color="gray"), WrongManifest, "the scale 1 .*'rgb'"),
    (_set_in("model", sampling={"temperature": -1.0, "rank": "likelihood"}), WrongManifest, "temperature"),
    (_degrade("target", ["images", "2*h", "2*w", 3]), WrongShape, "the graph degrade must have target"),
    (_degrade("condition", ["images", "h", "h", 3]), WrongShape, "the graph degrade must have condition"),
    (_file("../weights.bin"), PathOutside, "is not a path inside the bundle"),
    (_file("/etc/passwd"), PathOutside, "is not a path inside the bundle"),
    (_file("..\\weights.bin"), PathOutside, "is not a path inside the bundle"),
    (_file("C:weights.bin"), PathOutside, "is not a path inside the bundle"),
    (_file(""), PathOutside, "is not a path inside the bundle"),
]
NO_MANIFESTS = [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"text"', b"[" * 100_000]


def changed(folder: Path, change: Callable[[Manifest], None]) -> None:
    manifest = a_bundle(folder)
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def text_alone(folder: Path, text: bytes) -> None:
    folder.mkdir()
    (folder / MANIFEST).write_bytes(text)


def leading_out(folder: Path) -> None:
    changed(folder, _file("inside"))
    secret = folder.with_name("secret")
    secret.write_text("secret")
    (folder / "inside").symlink_to(secret)


def with_weights(folder: Path, contents: bytes | None) -> None:
    a_bundle(folder)
    (folder / "weights.bin").unlink()
    if contents is not None:
        (folder / "weights.bin").write_bytes(contents)


@dataclass(frozen=True)
class Wrong:
    """Bundle that every reader must refuse."""

    make: Callable[[Path], None]
    """Function that writes the bundle to a folder that does not exist yet."""
    errors: tuple[type[BundleError], ...]
    """Exceptions of which one must be raised."""
    message: str = "."
    """Regular expression for the message; the default matches every message."""


def wrong_bundles() -> Iterator[Wrong]:
    """Yield all wrong bundles. The tests of the C++ reader use them too."""
    for change, error, message in WRONG_MANIFESTS:
        yield Wrong(partial(changed, change=change), (error,), message)
    for text in NO_MANIFESTS:
        yield Wrong(partial(text_alone, text=text), (WrongManifest, UnknownFormat))
    yield Wrong(leading_out, (PathOutside,), "leads out of the bundle")
    yield Wrong(partial(with_weights, contents=bytes(99)), (TruncatedFile,), "100 bytes[,;] got 99")
    yield Wrong(partial(with_weights, contents=bytes(99) + b"x"), (WrongHash,), "expected SHA-256")
    yield Wrong(partial(with_weights, contents=None), (MissingFile,), r"weights\.bin")
    yield Wrong(Path.mkdir, (NoBundle,), r"the folder has no manifest\.json")
    yield Wrong(Path.touch, (NoBundle,), "bundle: export it first, with caflow-export .*bundle$|bundle is a file")
    yield Wrong(lambda _: None, (NoBundle,), "bundle: there is no such folder")
    yield Wrong(partial(text_alone, text=b" " * (MANIFEST_BYTES + 1)), (ManifestTooLarge,))


@pytest.mark.parametrize("wrong", list(wrong_bundles()))
def test_wrong_bundles_are_refused(tmp_path: Path, wrong: Wrong) -> None:
    folder = tmp_path / "bundle"
    wrong.make(folder)
    with pytest.raises(wrong.errors, match=wrong.message):
        verify_files(folder, read_manifest(folder))


def test_the_published_schema_is_the_formats() -> None:
    published = Path(__file__).parents[2] / "runtime" / "manifest.schema.json"
    assert json.loads(published.read_text()) == bundle.json_schema()
