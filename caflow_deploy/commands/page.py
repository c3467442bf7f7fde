"""`caflow page`: try a model in a browser."""

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from caflow_deploy.commands.options import bundle_option, open_pipeline, running_options
from caflow_deploy.commands.terminal import ending_on_errors
from caflow_runtime.errors import InputError

LOOPBACK = "127.0.0.1"


@click.command("page")
@bundle_option
@click.option("--host", default=LOOPBACK, show_default=True, help="Address to answer at; 0.0.0.0 lets others in.")
@click.option("--port", type=click.IntRange(1, 65535), default=7860, show_default=True)
@click.option("--open/--no-open", "opens_browser", help="Open the page in the browser.  [default: no-open]")
@running_options
def command(
    bundle: Path,
    host: str,
    port: int,
    opens_browser: bool,
    backend: str,
    threads: int,
    pixel_budget: int | None,
    overlap: int | None,
) -> None:
    """Serve a page to try a model with your own images, until Ctrl-C.

    Nothing is sent elsewhere, and what was uploaded is deleted at the end.
    """
    with suppress(KeyboardInterrupt), ending_on_errors(), TemporaryDirectory(prefix="caflow-page-") as folder:
        _check_port(host, port)
        set_environment(folder)
        check_gradio()
        pipe = open_pipeline(bundle, backend, threads, pixel_budget, overlap)
        from caflow_deploy.page.page import open_page

        with open_page(pipe, Path(folder), host, port, opens_browser) as address:
            click.echo(f"{pipe.folder.stem} is at {address}  Ctrl-C ends it")
            threading.Event().wait()


def set_environment(folder: str) -> None:
    """What packages read when they are imported: they tell nobody anything, and Gradio has its files in `folder`."""
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": folder,
        "HF_HUB_OFFLINE": "1",
        "no_proxy": "*",  # Gradio asks its own server whether it is there
    }


def check_gradio() -> None:
    """Whether it is installed.

    Raises:
        InputError
    """

    try:
        import gradio  # noqa: F401
    except ModuleNotFoundError:
        raise InputError("the page needs Gradio: pip install 'caflow-deploy[page]'") from None


def _check_port(host: str, port: int) -> None:
    """Gradio would not say what is wrong with it.

    Raises:
        InputError
    """

    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise InputError(f"page: {error.strerror}: give another --port, or --host") from None
