"""Optional packages: help on the extras that install them, and imports of them."""

import importlib
from typing import Any

from caflow_runtime.errors import InputError

HOW_TO_INSTALL = "pip install 'caflow-deploy[NAME]' installs the extra NAME, an optional part of caflow-deploy."
"""Last line of a help text. The text before it names the extras that the command and its options require."""


def import_optional(module: str, what: str, install: str) -> Any:
    """Import a module of an optional package.

    Arguments:
        what: the feature and the package, for the error, such as "videos require PyAV".
        install: what pip installs, such as "caflow-deploy[video]".

    Raises:
        InputError: if the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise InputError(f"{what}; install it with pip install '{install}'") from None
