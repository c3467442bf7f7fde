"""`caflow serve`: a bundle behind an address that many clients ask at the same time."""

import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caflow_deploy.commands.options import BACKENDS, NumberRange, bundle_option, silence
from caflow_deploy.commands.terminal import FAILED, end, ending_on_errors

if TYPE_CHECKING:
    from caflow_runtime.backends.select import BackendName

LOOPBACK = "127.0.0.1"
GRPC_MODULE = "caflow_deploy.serving.ray_serve.add_inference_service"
MESSAGE_LIMIT = "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE"
NAME = "caflow"
"""Of what Ray Serve runs."""
LATER_S = 5.0
"""Replicas end a late request; Ray Serve would, so much later, where they do not."""


@click.command()
@bundle_option
@click.option("--host", default=LOOPBACK, show_default=True, help="Address of HTTP; 0.0.0.0 is all of this machine's.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Of HTTP.")
@click.option(
    "--grpc-port",
    type=click.IntRange(1, 65535),
    help="Of gRPC, which is on all addresses of this machine.  [default: none]",
)
@click.option(
    "--metrics",
    "metrics_port",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    help="Of Ray's endpoint for Prometheus, which is on all addresses of this machine.  [default: any]",
)
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True, help="Processes with a bundle each.")
@click.option(
    "--ray",
    "address",
    metavar="auto|ADDRESS",
    help="A cluster that is there, without Ray Serve; --host and the ports are then of its head.  [default: none]",
)
@click.option("--backend", type=BACKENDS, default="auto", show_default=True, help="What runs it.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of a replica, on the CPU.")
@click.option("--max-batch", type=click.IntRange(1), default=8, show_default=True, help="Requests computed together.")
@click.option(
    "--max-wait", type=NumberRange(0), default=0.005, show_default=True, help="Seconds that one waits for others."
)
@click.option("--max-queue", type=click.IntRange(1), default=128, show_default=True, help="More requests are refused.")
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=2**23,  # MAX_PIXELS of caflow_runtime.service, which takes long to import
    show_default=True,
    help="Of the results of one request, all samples counted.",
)
@click.option(
    "--deadline",
    type=NumberRange(0, min_open=True),
    default=60,
    show_default=True,
    help="Seconds that a request may take.",
)
def serve(
    bundle: Path,
    host: str,
    port: int,
    grpc_port: int | None,
    metrics_port: int | None,
    replicas: int,
    address: str | None,
    backend: "BackendName",
    threads: int,
    max_batch: int,
    max_wait: float,
    max_queue: int,
    max_pixels: int,
    deadline: float,
) -> None:
    """Answer the Open Inference Protocol v2, as Triton does, by Ray Serve: tritonclient's HTTP and gRPC clients work.

    A bundle NAME is two models: NAME draws the best of n samples of each image, NAME-score judges targets. Ctrl-C, or
    SIGTERM, answers what was asked before, and ends.
    """
    silence()
    os.environ.setdefault(MESSAGE_LIMIT, str(6 * max_pixels + 2**16))
    with ending_on_errors():
        from caflow_deploy.serving.cluster import cluster
        from caflow_runtime.builtin import find_bundle
        from caflow_runtime.bundle import read_manifest, verify_files

        folder = find_bundle(bundle).resolve()
        verify_files(folder, read_manifest(folder))
        for wanted in (port, grpc_port, metrics_port) if address is None else ():
            if wanted is not None:
                _check_free(host, wanted)
        if address is not None and metrics_port is not None:
            end("--metrics is of a cluster that is started here: the machines of another have such ports already")
        with cluster(address, metrics_port) as ray:
            import logging

            from ray import serve
            from ray.serve.config import HTTPOptions, gRPCOptions

            from caflow_deploy.serving.ray_serve import Settings, application

            if serve.status().proxies:
                end("Ray Serve runs on that cluster already, with an address of its own: end what runs there first")
            gpus = 1 if backend != "cpu" and ray.cluster_resources().get("GPU") else 0
            _check_resources(ray.available_resources(), replicas, threads, gpus)
            logging.getLogger("ray.serve").setLevel(logging.WARNING)
            late = deadline + LATER_S
            serve.start(
                proxy_location="HeadOnly",
                http_options=HTTPOptions(host=host, port=port, request_timeout_s=late),
                grpc_options=gRPCOptions(
                    port=grpc_port or 0,
                    grpc_servicer_functions=[GRPC_MODULE] if grpc_port else [],
                    request_timeout_s=late,
                    enable_reflection=False,
                ),
            )
            settings = Settings(folder, backend, threads, max_pixels, deadline, max_batch, max_wait)
            for number in (signal.SIGINT, signal.SIGTERM):  # Ray has set its own
                signal.signal(number, signal.default_int_handler)
            try:
                with suppress(KeyboardInterrupt):
                    serve.run(application(settings, replicas, threads, gpus, max_queue), name=NAME)
                    also = f" and grpc://{host}:{grpc_port}" if grpc_port else ""
                    where = ", of the cluster's head" if address else ""
                    click.echo(f"{settings.bundle.stem} is at http://{host}:{port}{also}{where}")
                    threading.Event().wait()
            except RuntimeError as error:
                end(f"no replica could start: {str(error).strip().splitlines()[-1]}", FAILED)
            finally:
                serve.delete(NAME)  # what was asked before is answered
                if address is not None:  # the cluster goes on, without Ray Serve as before
                    serve.shutdown()  # type: ignore[no-untyped-call]


def _check_free(host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        end(f"port {port} of {host}: {error.strerror}: give another")


def _check_resources(found: dict[str, float], replicas: int, threads: int, gpus: int) -> None:
    """Ray Serve would wait for them for ever."""
    for name, wanted, way in (("CPU", replicas * threads, "--threads"), ("GPU", replicas * gpus, "--backend cpu")):
        if wanted > (there := found.get(name, 0)):
            end(f"{replicas} replicas want {wanted} {name}s, {there:g} are free: give fewer --replicas, or {way}")
