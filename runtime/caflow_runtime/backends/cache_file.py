"""What TensorRT measured or compiled, on disk, so that it need not do it again.

The file starts with the SHA-256 of the rest.
"""

import hashlib
import warnings
from pathlib import Path

from caflow_runtime.whole_files import remove_leftovers, write_whole

CHECKSUM_BYTES = hashlib.sha256().digest_size
LEFTOVER_AGE_S = 3600.0
"""No process takes so long to write a cache."""


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
    """Store it, whole or not at all. Several processes may do so at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, hashlib.sha256(contents).digest() + contents)
    remove_leftovers([path], LEFTOVER_AGE_S)
