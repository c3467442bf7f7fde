"""What TensorRT measured or compiled, on disk, so that it need not do it again.

The file starts with the SHA-256 of the rest.
"""

import hashlib
import os
import warnings
from pathlib import Path

CHECKSUM_BYTES = hashlib.sha256().digest_size


def read_cache(path: Path) -> bytes:
    """What is stored; nothing where nothing is, or, with a warning, where it is damaged."""
    if not path.is_file():
        return b""
    stored = path.read_bytes()
    checksum, contents = stored[:CHECKSUM_BYTES], stored[CHECKSUM_BYTES:]
    if hashlib.sha256(contents).digest() != checksum:
        warnings.warn(f"{path}: this cache is damaged and is dropped", stacklevel=2)
        return b""
    return contents


def write_cache(path: Path, contents: bytes) -> None:
    """Store it, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(hashlib.sha256(contents).digest() + contents)
    partial.replace(path)
