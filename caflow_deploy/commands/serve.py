"""`caflow serve`: serve a bundle to many clients over HTTP and gRPC."""

import logging
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from caflow_deploy.cluster.error_lines import last_line
from caflow_deploy.command_error import FAILED, CommandError
from caflow_deploy.commands.option_values import NumberRange
from caflow_deploy.commands.pipeline_options import backend_option, bundle_option
from caflow_deploy.console import CommandConsole, pass_console
from caflow_deploy.serving.bodies import Bodies
from caflow_deploy.stops import heed_sigterm
from caflow_runtime.backends.select import BackendName, may_use_gpu
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.bundle.reading import read_manifest, verify_files

LOOPBACK = "127.0.0.1"
NAME = "caflow"
"""Name of the Ray Serve application."""
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
@click.option("--grpc-port", type=click.IntRange(1, 65535), help="Port for gRPC.  [default: no gRPC]")
@click.option(
    "--metrics",
    "metrics_port",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    help="Serve Ray's metrics for Prometheus at http://127.0.0.1:PORT/metrics.  [default: any free port]",
)
@click.option(
    "--replicas",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of replicas. Each is a process that loads the bundle into its own memory.",
)
@click.option(
    "--ray",
    "address",
    metavar="auto|ADDRESS",
    help="Run the replicas on an existing Ray cluster, where Ray Serve must not run yet; auto is the cluster that this "
    "machine belongs to. Anyone who can reach the ports of the cluster can run code on it, unless it requires a "
    "token.  [default: run on this machine]",
)
@backend_option
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Number of CPU threads of each replica."
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
    help="How long an idle replica waits for further requests to compute together, in seconds; 0 does not wait.",
)
@click.option(
    "--max-queue",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="Maximum number of requests that wait for a replica. Further requests get HTTP status 503.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=2**23,  # MAX_PIXELS of caflow_runtime.service.service, which takes long to import
    show_default=True,
    help="Maximum number of pixels in the results of one request, counting all samples. Requests with more get HTTP "
    "status 400.",
)
@click.option(
    "--deadline",
    type=NumberRange(0, min_open=True),
    default=60,
    show_default=True,
    help="Maximum time from the arrival of a whole request to its answer, in seconds. Later answers become HTTP status "
    "504.",
)
@pass_console
def command(
    console: CommandConsole,
    bundle: Path,
    host: str,
    port: int,
    grpc_port: int | None,
    metrics_port: int | None,
    replicas: int,
    address: str | None,
    backend: BackendName,
    threads: int,
    max_batch: int,
    max_wait: float,
    max_queue: int,
    max_pixels: int,
    deadline: float,
) -> None:
    """Serve a bundle over HTTP and gRPC with the Open Inference Protocol v2.

    Requires the extra ray. The HTTP and gRPC clients of Triton (tritonclient) work with this server. A bundle NAME is
    served as two models: NAME draws the best of n samples of each image, and NAME-score judges existing targets. The
    replicas, which are processes that compute the answers, run in Ray Serve.

    Starting takes seconds, or minutes on a busy machine. The command prints a line when it begins to start the server,
    and the address when the server is ready. After Ctrl-C or SIGTERM, the server answers the requests that have
    arrived, and ends.
    """
    ports = [one for one in (port, grpc_port, metrics_port) if one is not None]
    if len(set(ports)) < len(ports):
        raise CommandError("--port, --grpc-port and --metrics must be different ports")
    from caflow_deploy.cluster.cluster import cluster, listen

    folder = find_bundle(bundle).resolve()
    verify_files(folder, read_manifest(folder))
    for place, wanted in ((host, port), (host, grpc_port), (LOOPBACK, metrics_port)):
        if wanted is not None:
            listen(place, wanted).close()  # report a port that is in use before Ray starts
    if address is not None and metrics_port is not None:
        raise CommandError(
            "--metrics does not work with --ray: each machine of the cluster has a port for metrics already"
        )
    console.warning(f"starting Ray and {replicas} × {folder.stem}, which takes seconds to minutes")
    with cluster(address, metrics_port) as ray:
        heed_sigterm()  # Ray has replaced the handlers
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from ray import serve

        from caflow_deploy.serving.addresses import Addresses
        from caflow_deploy.serving.front import Front, models_of
        from caflow_deploy.serving.ray_serve import Replicas, Settings, application

        found = serve.status()
        if found.proxies or found.applications:
            raise CommandError(
                "Ray Serve runs on this cluster already; shut it down first (serve shutdown), or give another --ray"
            )
        gpus = 1 if may_use_gpu(backend) and ray.cluster_resources().get("GPU") else 0
        _check_resources(ray.available_resources(), replicas, threads, gpus)
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(proxy_location="Disabled")  # Ray's proxies have no limits, and listen for gRPC on all addresses
        settings = Settings(folder, backend, threads, max_pixels, deadline, max_batch, max_wait)
        bodies = Bodies(SPARE_BYTES + 6 * max_pixels)  # the largest request: a target and its condition
        try:
            with suppress(KeyboardInterrupt):
                app = application(settings, replicas, threads, gpus, max_queue)
                front = Front(
                    models_of(folder.stem), Replicas(serve.run(app, name=NAME, route_prefix=None)), bodies, deadline
                )
                addresses = Addresses(front, host, port, grpc_port)
                with addresses.open():
                    console.result(f"{folder.stem} is ready at {addresses.text}")
                    threading.Event().wait()
        except RuntimeError as error:
            raise CommandError(f"no replica could start: {last_line(error)}", FAILED) from None
        finally:
            delete_application(serve, is_own_ray=address is None)


def delete_application(serve: Any, is_own_ray: bool) -> None:
    """End the replicas.

    Arguments:
        serve: the module `ray.serve`.
        is_own_ray: whether Ray ends with the command. Otherwise the cluster keeps running, without Ray Serve as before.
    """
    # On a busy machine, replicas may need longer than the 60 s that Ray waits. They then end with Ray or Ray Serve.
    with suppress(TimeoutError):
        serve.delete(NAME)
    if not is_own_ray:
        serve.shutdown()


def _check_resources(found: dict[str, float], replicas: int, threads: int, gpus: int) -> None:
    """End the command if the cluster lacks CPUs or GPUs for the replicas. Ray Serve would wait for them forever."""
    for name, wanted, way in (("CPU", replicas * threads, "--threads"), ("GPU", replicas * gpus, "--backend cpu")):
        if wanted > (there := found.get(name, 0)):
            raise CommandError(
                f"{replicas} replicas require {wanted} {name}s, but {there:g} are free; give fewer --replicas, or {way}"
            )
