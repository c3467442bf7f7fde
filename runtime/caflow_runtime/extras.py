"""Extras, the optional parts of the installation: help on them, and imports of the packages that they install."""

import importlib
from typing import Any

from caflow_runtime.errors import InputError

HOW_TO_INSTALL = "pip install 'caflow-deploy[NAME]' installs the extra NAME, an optional part of caflow-deploy."
"""Last line of a help text. The text before it names the extras that the command and its options require."""


def import_optional(module: str, what: str, extra: str) -> Any:
    """Import a module of an optional package.

    Arguments:
        what: the feature and the package, for the error, such as "videos require PyAV".
        extra: extra of this package that installs it.

    Raises:
        InputError: if the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise InputError(f"{what}; install it with pip install 'caflow-deploy[{extra}]'") from None
