"""Cache files of TensorRT's timing measurements and compiled kernels, kept for later processes.

A cache file starts with the SHA-256 of its contents.
"""

import hashlib
import warnings
from pathlib import Path

from caflow_runtime.whole_files import remove_leftovers, write_whole

CHECKSUM_BYTES = hashlib.sha256().digest_size
"""Size of the checksum at the beginning of the file."""
LEFTOVER_AGE_S = 3600.0
"""Age in seconds from which a temporary file counts as left behind by a killed process. No process takes so long to
write a cache."""


def read_cache(path: Path) -> bytes:
    """Return the contents of a cache file, or no bytes if the file is missing or damaged. Warn if it is damaged."""
    if not path.is_file():
        return b""
    stored = path.read_bytes()
    checksum, contents = stored[:CHECKSUM_BYTES], stored[CHECKSUM_BYTES:]
    if hashlib.sha256(contents).digest() != checksum:
        warnings.warn(f"{path} is damaged: its checksum is wrong; this cache is ignored", stacklevel=2)
        return b""
    return contents


def write_cache(path: Path, contents: bytes) -> None:
    """Write a cache file completely or not at all. Several processes may write the same file at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, hashlib.sha256(contents).digest() + contents)
    remove_leftovers([path], LEFTOVER_AGE_S)
