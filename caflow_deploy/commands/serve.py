"""`caflow serve`: serve a bundle to many clients over HTTP."""

import threading
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from click.core import ParameterSource

from caflow_cli.command_error import FAILED, CommandError
from caflow_cli.console import command_console
from caflow_cli.field_options import gathered
from caflow_cli.option_values import NumberRange
from caflow_deploy.commands.pipeline_options import MAX_PIXELS_LIMIT, backend_option, bundle_option
from caflow_deploy.serving.body_limiter import BodyLimiter
from caflow_deploy.serving.listening import listen
from caflow_deploy.serving.loop_thread import loop_thread
from caflow_deploy.serving.model_instruments import Prometheus
from caflow_deploy.serving.worker import WorkerFailed
from caflow_deploy.serving.worker_pool import BatchSettings, WorkerPool
from caflow_deploy.serving.worker_process import WorkerSettings
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.file_io.paths import real_path
from caflow_runtime.interruptible import deferring_stops

LOOPBACK = "127.0.0.1"
PACKAGES = ("python_multipart", "starlette", "uvicorn")
"""Packages of the extra `serve` that every server requires."""
SPARE_BYTES = 2**16
"""Bytes that a request may have in addition to its pixels."""


@click.command("serve")
@bundle_option
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    help="Address to listen on; with 0.0.0.0, other machines can connect.",
)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Port for HTTP.")
@click.option(
    "--metrics",
    "metrics_port",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    help="Serve metrics for Prometheus at http://127.0.0.1:PORT/metrics.  [default: no metrics]",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of worker processes. Each loads the bundle into its own memory. On several GPUs, the workers use them "
    "in turns.",
)
@backend_option
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Number of CPU threads of each worker."
)
@click.option(
    "--max-batch",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Maximum number of requests to compute together.",
)
@click.option(
    "--max-wait",
    type=NumberRange(0),
    default=0.005,
    show_default=True,
    help="How long an idle worker waits for further requests to compute together, in seconds; 0 does not wait.",
)
@click.option(
    "--max-queue",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="Maximum number of requests that wait for a worker. Further requests get HTTP status 503.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=2**23,  # MAX_PIXELS of caflow_deploy.serving.service, which takes long to import
    show_default=True,
    help="Maximum number of pixels in the results of one request for tensors, counting all samples. Requests with more "
    "get HTTP status 400.",
)
@click.option(
    "--max-image-pixels",
    type=click.IntRange(1, MAX_PIXELS_LIMIT),
    default=13_000_000,
    show_default=True,
    help="Maximum number of pixels of an image file. Larger ones get HTTP status 413.",
)
@click.option(
    "--deadline",
    type=NumberRange(0, min_open=True),
    default=60,
    show_default=True,
    help="Maximum time from the arrival of a whole request to its answer, in seconds. Later answers become HTTP status "
    "504. For an image file whose results have more pixels than --max-pixels, it is multiplied by their ratio.",
)
def command(host: str, port: int, metrics_port: int | None, workers: int, **given: Any) -> None:
    """Serve models over HTTP: image files, and tensors with the Open Inference Protocol v2.

    Requires the extra serve. POST an image file to /enlarge, /inpaint or /colorize, and get one back. The image decides
    which model enlarges it, unless --model is given.

    For tensors, the HTTP client of Triton (tritonclient) works with this server. A bundle NAME is served as two models:
    NAME draws the best of n samples of each image, and NAME-score judges existing targets. Worker processes compute the
    answers. A worker that dies is replaced.

    The command prints the address when the server is ready. After Ctrl-C or SIGTERM, the server answers the requests
    that have arrived, and ends.
    """
    console = command_console()
    if port == metrics_port:
        raise CommandError("--port and --metrics must be different ports")
    _check_packages()
    is_chosen = click.get_current_context().get_parameter_source("bundle") != ParameterSource.DEFAULT
    folder, batches = real_path(find_bundle(given["bundle"])), gathered(BatchSettings, given)
    channels = read_manifest(folder).model.condition_channels  # workers check all files
    for place, wanted in ((host, port), (LOOPBACK, metrics_port)):
        if wanted is not None:
            listen(place, wanted).close()  # report a port that is in use before workers start
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        metrics_folder = None if metrics_port is None else Path(stack.enter_context(TemporaryDirectory()))
        metrics = metrics_folder and Prometheus(metrics_folder)
        settings = gathered(WorkerSettings, given | {"bundle": folder, "metrics_folder": metrics_folder})
        pool, run = WorkerPool(workers, settings, batches), stack.enter_context(loop_thread())
        stack.enter_context(pool.open(run))
        with deferring_stops():  # imports may lose exceptions; these take long, and workers start meanwhile
            from caflow_deploy.serving.image_app import ImageApp, image_bodies
            from caflow_deploy.serving.image_requests import ImageModels
            from caflow_deploy.serving.inference_app import InferenceApp, models_of
            from caflow_deploy.serving.server_runner import ServerRunner
        try:
            run(pool.wait_until_ready())
        except WorkerFailed as error:
            raise CommandError(f"a worker could not start: {error}", FAILED) from None
        largest = (3 + channels) * settings.max_pixels  # a target and its condition
        bodies = BodyLimiter(SPARE_BYTES + largest)
        models = ImageModels.of(folder, is_chosen, settings.max_image_pixels)
        images = ImageApp(models, pool, image_bodies(models), batches.deadline, settings.max_pixels)
        app = InferenceApp(models_of(folder.stem, channels), pool, bodies, batches.deadline, images)
        server = ServerRunner(app, host, port)
        if metrics and metrics_port:
            stack.enter_context(metrics.serving(metrics_port, LOOPBACK))
        with server.open(run):
            console.result(f"{folder.stem} is ready at {server.text}")
            threading.Event().wait()


def _check_packages() -> None:
    """End the command if the extra is not installed."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise CommandError(f"caflow serve requires {missing[0]}; install it with pip install 'caflow-deploy[serve]'")
