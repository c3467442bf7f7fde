"""Reading and writing the files of a bundle.

An invalid bundle is rejected, with a different exception for each kind of error.
"""

import hashlib
from pathlib import Path

import msgspec

from caflow_runtime.bundle.builtin import names
from caflow_runtime.bundle.bundle_errors import (
    BrokenGraph,
    ManifestTooLarge,
    MissingFile,
    NoBundle,
    TruncatedFile,
    UnlistedFile,
    WrongHash,
    WrongManifest,
)
from caflow_runtime.bundle.external_data import external_files
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import File, Manifest, files_of
from caflow_runtime.bundle.manifest_checks import PATH_BYTES, check_format, check_manifest
from caflow_runtime.bundle.onnx_fields import WrongGraph
from caflow_runtime.file_io.strict_json import WrongJson, convert, parse_json

MANIFEST_BYTES = 4 * 2**20
"""Maximum length of a manifest, in bytes. A larger file is rejected without being read."""
HASH_BLOCK_BYTES = 2**20
GRAPH_BYTES = 16 * 2**20
"""Maximum length of an ONNX file, in bytes. A larger file is rejected without being read, because weights must be
stored in separate files."""
CHECKPOINTS = (".pt", ".pth", ".ckpt")
"""Suffixes of checkpoint files."""


def read_manifest(folder: str | Path) -> Manifest:
    """Return the manifest of a bundle. Everything is checked except the contents of the files that it lists.

    Raises:
        BundleError: a different subclass for each kind of error.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise NoBundle(_why_none(folder))
    if (size := path.stat().st_size) > MANIFEST_BYTES:
        raise ManifestTooLarge(f"{path} must have at most {MANIFEST_BYTES} bytes; got {size}")
    return parse_manifest(path.read_bytes(), path)


def parse_manifest(text: bytes, path: Path) -> Manifest:
    """Return the manifest that is stored in `text`, after checking it.

    Everything is checked except the contents of the files that the manifest lists.

    Arguments:
        path: path of the manifest. Links beside it must not lead out of its folder.

    Raises:
        BundleError: if the manifest is not valid.
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
    """Check that every listed file exists and has the listed length and hash, and that graphs read no other files.

    Raises:
        MissingFile, TruncatedFile, WrongHash, BrokenGraph, UnlistedFile
    """
    for file in files_of(manifest):
        verify_file(folder, file)
    for graph in manifest.graphs:
        _check_external_data(Path(folder) / graph.file.path, graph.file, manifest.weights)


def verify_file(
    folder: str | Path, file: File, fault: str = "is damaged", remedy: str = "copy or export the bundle again"
) -> None:
    """Check that a listed file exists and has the listed length and hash.

    Arguments:
        fault, remedy: what the message says about a file with another length or hash, and what to do.

    Raises:
        MissingFile, TruncatedFile, WrongHash
    """
    path = Path(folder) / file.path
    if not path.is_file():
        raise MissingFile(f"{path} is missing, although the manifest lists it: {remedy}")
    if (size := path.stat().st_size) != file.bytes:
        raise TruncatedFile(f"{path} {fault}: expected {file.bytes} bytes, got {size}: {remedy}")
    if (found := sha256_of(path)) != file.sha256:
        raise WrongHash(f"{path} {fault}: expected SHA-256 {file.sha256}, got {found}: {remedy}")


def file_state(path: Path) -> tuple[int, ...] | None:
    """Return numbers that are others after a file was replaced or written to, or None if there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return None
    # On POSIX systems, st_ctime_ns is the time of the last change of any kind, which programs cannot set.
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def write_manifest(folder: str | Path, manifest: Manifest) -> None:
    """Write `manifest.json`, indented for human readers."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (Path(folder) / MANIFEST).write_bytes(text + b"\n")


def describe_file(folder: Path, name: str) -> File:
    """Return the description of a file, as it is listed in the manifest."""
    path = folder / name
    return File(path=name, bytes=path.stat().st_size, sha256=sha256_of(path))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _why_none(folder: Path) -> str:
    """Return why there is no bundle at a path, and what to do."""
    if folder.is_file() and folder.suffix.lower() in CHECKPOINTS:
        return f"{folder} is a checkpoint, not a bundle: export it first, with caflow-export {folder}"
    if folder.is_file():
        return f"{folder} is a file: give the folder of a bundle, or the name of a built-in model: {', '.join(names())}"
    if folder.exists():
        return (
            f"{folder} is not a bundle, because the folder has no {MANIFEST}: export a checkpoint with caflow-export "
            "to create a bundle"
        )
    return (
        f"{folder}: there is no such folder: give the path of a bundle, or the name of a built-in model: "
        f"{', '.join(names())}"
    )


def _check_external_data(path: Path, file: File, weights: list[File]) -> None:
    """Check that a graph reads only files that the manifest lists, because only those are covered by hashes.

    Raises:
        BrokenGraph, UnlistedFile
    """
    if file.bytes > GRAPH_BYTES:
        raise BrokenGraph(
            f"{path} must have at most {GRAPH_BYTES} bytes; got {file.bytes}: export the model again, with its weights "
            "in a separate file"
        )
    folder = "".join(file.path.rpartition("/")[:2]).encode()
    listed = {one.path.encode() for one in weights}
    try:
        for location in external_files(path.read_bytes()):
            if folder + location not in listed:
                name = location[:PATH_BYTES].decode(errors="backslashreplace")
                raise UnlistedFile(
                    f"{path} reads weights from {name!r}, which the manifest does not list: export the model again"
                )
    except WrongGraph as error:
        raise BrokenGraph(f"{path}: {error}: export the model again") from None
