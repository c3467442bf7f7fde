"""`caflow page`: serve a web page to try a model in a browser."""

import os
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from caflow_cli.console import command_console
from caflow_cli.field_options import gathered
from caflow_deploy.commands.execution_options import ExecutionOptions
from caflow_deploy.commands.pipeline_options import BUNDLES, BundlePath, running_options
from caflow_deploy.images.model_choice import MODELS
from caflow_runtime.bundle.builtin import DEFAULT_FOR_INPUTS
from caflow_runtime.errors import InputError
from caflow_runtime.extras import import_optional

LOOPBACK = "127.0.0.1"


@click.command("page")
@click.option(
    "--model",
    "bundle",
    type=BundlePath(),
    help=f"Show this model alone: {BUNDLES}.  [default: a tab for each task of the built-in models]",
)
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    help="Address to listen on; with 0.0.0.0, other machines can connect.",
)
@click.option("--port", type=click.IntRange(1, 65535), default=7860, show_default=True, help="Port of the page.")
@click.option("--open/--no-open", "opens_browser", help="Whether to open the page in a browser.  [default: no-open]")
@running_options
def command(host: str, port: int, opens_browser: bool, **given: Any) -> None:
    """Serve a web page that enlarges, repairs and colours your own images, until Ctrl-C.

    For images to enlarge, the model is chosen by the image, as by caflow image. Requires the extra page. Images are
    sent to no other server. Uploaded images and their results are deleted when the command ends.
    """
    console = command_console()
    with suppress(KeyboardInterrupt), TemporaryDirectory(prefix="caflow-page-") as folder:
        _check_port(host, port)
        set_environment(folder)
        import_optional("gradio", "the page requires Gradio", "caflow-deploy[page]")
        named = given.pop("bundle")
        execution = gathered(ExecutionOptions, given)
        tabs = [[replace(execution, bundle=name).open_pipeline() for name in tab] for tab in _tabs(named)]
        from caflow_deploy.page.page import open_page

        with open_page(tabs, Path(folder), host, port, opens_browser) as address:
            name = tabs[0][0].folder.stem if named else "the page"
            console.result(f"{name} is at {address}  Press Ctrl-C to stop.")
            threading.Event().wait()


def _tabs(named: Path | None) -> list[list[Path]]:
    """Return the models of each tab."""
    if named is not None:
        return [[named]]
    return [[*map(Path, MODELS)], *([Path(name)] for name in DEFAULT_FOR_INPUTS.values())]


def set_environment(folder: str) -> None:
    """Set the variables that packages read when they are imported: no telemetry, and Gradio's files in `folder`."""
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": folder,
        "HF_HUB_OFFLINE": "1",
        "no_proxy": "*",  # Gradio connects to its own server at the start; a proxy could not reach it
    }


def _check_port(host: str, port: int) -> None:
    """Check that a port is free, because Gradio's own error does not tell the reason.

    Raises:
        InputError: if it is not, or if the address is one of IPv6, which Gradio cannot use.
    """
    if ":" in host:
        raise InputError(f"the page cannot listen on the IPv6 address {host}: give a name or an IPv4 address as --host")
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise InputError(
            f"cannot listen on port {port} of {host}: {error.strerror}; give another --port or --host"
        ) from None
