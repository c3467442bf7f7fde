"""Import of packages that only some features need, and that extras of this package install."""

import importlib
from typing import Any

from caflow_runtime.errors import InputError


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
