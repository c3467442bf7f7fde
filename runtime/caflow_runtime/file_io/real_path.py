"""The real path of a file or folder: absolute, and without links."""

import os
from pathlib import Path


def real_path(path: str | Path) -> Path:
    """Return the path with all links resolved. A link that leads to itself stays as it is.

    `Path.resolve` of Python 3.11 and 3.12 raises a RuntimeError for such a link.
    """
    return Path(os.path.realpath(path))
