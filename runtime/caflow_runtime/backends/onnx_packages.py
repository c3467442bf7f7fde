"""The packages of ONNX Runtime and of its plug-ins: which are installed, and whether they fit together."""

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from caflow_runtime.backends.providers import Provider
from caflow_runtime.errors import BackendError

BUILDS = (
    *("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml"),
    *("onnxruntime-openvino", "onnxruntime-rocm", "onnxruntime-migraphx"),
)
"""Packages that each contain a complete ONNX Runtime. All of them install their files in the same place."""


def import_onnxruntime() -> Any:
    """Import ONNX Runtime and return it, with its telemetry disabled.

    By default, the official builds report to their vendor which models are opened.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reads this when it is imported
    import onnxruntime

    return onnxruntime


def installed_builds() -> list[str]:
    """Return the installed packages of ONNX Runtime. Several packages would overwrite each other's files."""
    return [name for name in BUILDS if is_installed(name)]


def is_installed(distribution: str) -> bool:
    """Return whether a package of this name is installed."""
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def check_installed(provider: Provider) -> None:
    """Check that exactly one package of ONNX Runtime is installed, and that it has the provider unless it is a plug-in.

    Raises:
        BackendError: with the command that installs the right package.
    """
    found = installed_builds()
    if not found:
        raise BackendError("ONNX Runtime is not installed", f"pip install '{provider.install}'")
    again = f"pip uninstall -y {' '.join(found)} && pip install '{provider.install}'"
    if len(found) > 1:
        raise BackendError(
            f"{found[0]} and {found[1]} are both installed and overwrite each other's files, so one does not work",
            again,
        )
    if provider.is_reference or provider.plugin is not None:
        return  # every build has the CPU's; and estimates of memory count ONNX Runtime's library as not loaded yet
    if provider.name not in (there := import_onnxruntime().get_available_providers()):
        raise BackendError(f"the installed package {found[0]} has no {provider.name}; it has {', '.join(there)}", again)
