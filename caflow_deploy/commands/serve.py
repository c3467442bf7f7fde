"""`caflow serve`: a bundle behind an address that many clients ask at the same time."""

import logging
import signal
import threading
from contextlib import suppress
from pathlib import Path

import click

from caflow_deploy.commands.options import NumberRange, backend_option, bundle_option
from caflow_deploy.commands.terminal import FAILED, end, ending_on_errors
from caflow_deploy.serving.bodies import Bodies
from caflow_runtime.backends.select import GPU_BACKENDS, BackendName
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.bundle.reading import read_manifest, verify_files

LOOPBACK = "127.0.0.1"
NAME = "caflow"
"""Of what Ray Serve runs."""
SPARE_BYTES = 2**16
"""Of a request, beside its pixels."""


@click.command("serve")
@bundle_option
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    help="Address to answer at, by HTTP and gRPC; 0.0.0.0 is all addresses of this machine.",
)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Port of HTTP.")
@click.option("--grpc-port", type=click.IntRange(1, 65535), help="Port of gRPC.  [default: none]")
@click.option(
    "--metrics",
    "metrics_port",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    help="Port of Ray's endpoint for Prometheus, on the loopback address.  [default: any free port]",
)
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True, help="Processes with a bundle each.")
@click.option(
    "--ray",
    "address",
    metavar="auto|ADDRESS",
    help="A Ray cluster to run the replicas on, without Ray Serve so far. Its own ports are on all addresses of its "
    "machines: whoever reaches them may run code there, unless the cluster requires a token.  [default: this machine]",
)
@backend_option
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of a replica, on the CPU.")
@click.option("--max-batch", type=click.IntRange(1), default=8, show_default=True, help="Requests computed together.")
@click.option(
    "--max-wait", type=NumberRange(0), default=0.005, show_default=True, help="Seconds that one waits for others."
)
@click.option("--max-queue", type=click.IntRange(1), default=128, show_default=True, help="More requests are refused.")
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=2**23,  # MAX_PIXELS of caflow_runtime.service.service, which takes long to import
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
def command(
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
    """Answer the Open Inference Protocol v2, as Triton does, by Ray Serve: tritonclient's HTTP and gRPC clients work.

    A bundle NAME is two models: NAME draws the best of n samples of each image, NAME-score judges targets. Ctrl-C, or
    SIGTERM, answers what was asked before, and ends.
    """
    with ending_on_errors():
        from caflow_deploy.cluster.cluster import cluster, listen

        folder = find_bundle(bundle).resolve()
        verify_files(folder, read_manifest(folder))
        for place, wanted in ((host, port), (host, grpc_port), (LOOPBACK, metrics_port)):
            if wanted is not None:
                listen(place, wanted).close()  # a port that is not free is said at once
        if address is not None and metrics_port is not None:
            end("--metrics is of a cluster that is started here: the machines of another have such ports already")
        with cluster(address, metrics_port) as ray:
            from ray import serve

            from caflow_deploy.serving.addresses import Addresses
            from caflow_deploy.serving.front import Front, models_of
            from caflow_deploy.serving.ray_serve import Replicas, Settings, application

            found = serve.status()
            if found.proxies or found.applications:
                end("Ray Serve runs on that cluster already: end what runs there first")
            gpus = 1 if backend in GPU_BACKENDS and ray.cluster_resources().get("GPU") else 0
            _check_resources(ray.available_resources(), replicas, threads, gpus)
            logging.getLogger("ray.serve").setLevel(logging.WARNING)
            serve.start(proxy_location="Disabled")  # its proxies have no limits, and gRPC on all addresses
            settings = Settings(folder, backend, threads, max_pixels, deadline, max_batch, max_wait)
            bodies = Bodies(SPARE_BYTES + 6 * max_pixels)  # a target and its condition, the largest
            for number in (signal.SIGINT, signal.SIGTERM):  # Ray has set its own
                signal.signal(number, signal.default_int_handler)
            try:
                with suppress(KeyboardInterrupt):
                    app = application(settings, replicas, threads, gpus, max_queue)
                    front = Front(
                        models_of(folder.stem), Replicas(serve.run(app, name=NAME, route_prefix=None)), bodies, deadline
                    )
                    with Addresses(front, host, port, grpc_port).open():
                        also = f" and grpc://{host}:{grpc_port}" if grpc_port else ""
                        click.echo(f"{folder.stem} is at http://{host}:{port}{also}")
                        threading.Event().wait()
            except RuntimeError as error:
                end(f"no replica could start: {str(error).strip().splitlines()[-1]}", FAILED)
            finally:
                serve.delete(NAME)
                if address is not None:  # the cluster goes on, without Ray Serve as before
                    serve.shutdown()  # type: ignore[no-untyped-call]


def _check_resources(found: dict[str, float], replicas: int, threads: int, gpus: int) -> None:
    """Ray Serve would wait for them for ever."""
    for name, wanted, way in (("CPU", replicas * threads, "--threads"), ("GPU", replicas * gpus, "--backend cpu")):
        if wanted > (there := found.get(name, 0)):
            end(f"{replicas} replicas want {wanted} {name}s, {there:g} are free: give fewer --replicas, or {way}")
