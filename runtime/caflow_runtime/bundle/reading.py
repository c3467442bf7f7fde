"""Reading and writing a bundle's files. What is wrong in any way is refused, each way by its own exception."""

import hashlib
from pathlib import Path

import msgspec

from caflow_runtime.bundle.builtin import names
from caflow_runtime.bundle.external_data import WrongGraph, external_files
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import File, Manifest, files_of
from caflow_runtime.bundle.manifest_checks import PATH_BYTES, check_format, check_manifest
from caflow_runtime.bundle.wrong_bundle import (
    BrokenGraph,
    ManifestTooLarge,
    MissingFile,
    NoBundle,
    TruncatedFile,
    UnlistedFile,
    WrongHash,
    WrongManifest,
)
from caflow_runtime.strict_json import WrongJson, convert, parse_json

MANIFEST_BYTES = 4 * 2**20
"""A larger manifest is refused unread."""
HASH_BLOCK_BYTES = 2**20
GRAPH_BYTES = 16 * 2**20
"""A larger ONNX file is refused unread: weights are not in it."""
CHECKPOINTS = (".pt", ".pth", ".ckpt")
"""What their names end in."""


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of a bundle, checked but for the contents of the files that it names.

    Raises:
        BundleError: one of its subclasses for each way in which it can be wrong.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise NoBundle(_why_none(folder))
    if (size := path.stat().st_size) > MANIFEST_BYTES:
        raise ManifestTooLarge(f"{path}: wanted at most {MANIFEST_BYTES} bytes, got {size}")
    return parse_manifest(path.read_bytes(), path)


def parse_manifest(text: bytes, path: Path) -> Manifest:
    """Return the manifest that a text holds, checked but for the files that it names.

    Arguments:
        path: of the manifest. Links beside it must not lead out of its folder.

    Raises:
        BundleError
    """
    try:
        contents = parse_json(text, object)
        check_format(path, contents)
        manifest = convert(contents, Manifest)
    except WrongJson as error:
        raise WrongManifest(f"{path}: {error}") from None
    check_manifest(path, manifest)
    return manifest


def verify_files(folder: str | Path, manifest: Manifest) -> None:
    """Check that every file is there, whole, and the one that the manifest was written for; and that graphs read no
    other.

    Raises:
        MissingFile, TruncatedFile, WrongHash, BrokenGraph, UnlistedFile
    """
    for file in files_of(manifest):
        path = Path(folder) / file.path
        if not path.is_file():
            raise MissingFile(f"{path}: the manifest names this file, but it is not there: export the model again")
        if (size := path.stat().st_size) != file.bytes:
            raise TruncatedFile(f"{path}: wanted {file.bytes} bytes, got {size}: copy or export the bundle again")
        if (found := sha256_of(path)) != file.sha256:
            raise WrongHash(f"{path}: wanted SHA-256 {file.sha256}, got {found}: copy or export the bundle again")
    for graph in manifest.graphs:
        _check_external_data(Path(folder) / graph.file.path, graph.file, manifest.weights)


def write_manifest(folder: str | Path, manifest: Manifest) -> None:
    """Write `manifest.json`, indented for readers."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (Path(folder) / MANIFEST).write_bytes(text + b"\n")


def describe_file(folder: Path, name: str) -> File:
    """A file of the folder as the manifest names it."""
    path = folder / name
    return File(path=name, bytes=path.stat().st_size, sha256=sha256_of(path))


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _why_none(folder: Path) -> str:
    """Why there is no bundle at a path, and what to do."""
    if folder.is_file() and folder.suffix.lower() in CHECKPOINTS:
        return f"{folder}: wanted a bundle, got a checkpoint: export it first, with caflow-export {folder}"
    if folder.exists():
        return f"{folder}: wanted a bundle, but there is no {MANIFEST} in it: export a checkpoint to make one"
    return (
        f"{folder}: there is no such folder: give one that caflow-export wrote, or the name of a built-in model: "
        f"{', '.join(names())}"
    )


def _check_external_data(path: Path, file: File, weights: list[File]) -> None:
    """Whatever else an ONNX file reads would come from outside of what is hashed."""
    if file.bytes > GRAPH_BYTES:
        raise BrokenGraph(f"{path}: wanted at most {GRAPH_BYTES} bytes, with weights in a file of their own")
    folder = "".join(file.path.rpartition("/")[:2]).encode()
    listed = {one.path.encode() for one in weights}
    try:
        for location in external_files(path.read_bytes()):
            if folder + location not in listed:
                name = location[:PATH_BYTES].decode(errors="backslashreplace")
                raise UnlistedFile(
                    f"{path}: reads weights from {name!r}, which the manifest does not list: export the model again"
                )
    except WrongGraph as error:
        raise BrokenGraph(f"{path}: {error}: export the model again") from None
