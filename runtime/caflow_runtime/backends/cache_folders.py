"""Folders for what can be computed again: results of checks, and engines that providers build."""

import os
from pathlib import Path

from caflow_runtime.bundle.engine_sets import FOLDER


def user_cache() -> Path:
    """Return the folder for caches of this user, which need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "caflow-deploy"


def engine_cache(folder: Path, name: str) -> Path:
    """Return an existing folder for engines that a provider builds, in the bundle if that is writable.

    Arguments:
        folder: folder of the bundle.
        name: name of the cache. Everything that the engines depend on must be part of it.
    """
    parent = folder / FOLDER
    if not os.access(parent if parent.is_dir() else folder, os.W_OK):
        parent = user_cache() / FOLDER
    cache = parent / f"cache-{name}"
    cache.mkdir(parents=True, exist_ok=True)
    return cache
