"""Workers that are actors on the machines of a Ray cluster. Ray Data starts them and distributes the work."""

import logging
import pickle
import socket
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from caflow_deploy.cluster.cluster import cluster
from caflow_deploy.cluster.error_lines import last_line
from caflow_deploy.cluster.fleet import ATTEMPTS, Place, Result, Unit, Work, open_pipeline
from caflow_deploy.cluster.quiet import quiet
from caflow_deploy.stops import heed_sigterm
from caflow_runtime.errors import BackendError, CaflowError, InputError


@dataclass(frozen=True)
class RayFleet:
    """Workers on a Ray cluster."""

    ray: Any
    place: Place
    size: int

    @property
    def backend(self) -> str:
        """`Pipeline.backend` of the workers' pipelines."""
        return str(self.place.settings["backend"])

    def run(self, work: Work[Unit, Result]) -> Iterator[tuple[Unit, Result | None]]:
        """Process all units, as `Fleet.run`."""
        parts, units = work.parts(self.size), work.units
        rows = [{"work": pickle.dumps([(number, units[number]) for number in part])} for part in parts]
        if not rows:
            return
        try:
            for row in self._dataset(rows, work).iter_rows():
                results = pickle.loads(row["results"])
                if isinstance(results, Exception):
                    raise results
                for number, result in results:
                    yield units[number], result
        except self.ray.exceptions.RayError as error:
            raise BackendError(f"Ray failed: {last_line(error)}") from None

    def _dataset(self, rows: list[dict[str, bytes]], work: Work[Any, Any]) -> Any:
        import ray.data
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised and reported by the command
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.execution_no_progress_timeout_s = -1  # no timeout: a large image takes long
        context.execution_options.preserve_order = work.in_order
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        attempts = ray.remote(Attempts).options(num_cpus=0, scheduling_strategy=here).remote()
        size = min(self.size, len(rows))
        # Pickled here, so that an actor silences OpenCV before it imports the module of this function.
        sent = pickle.dumps(work.do)
        return ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Worker,
            fn_constructor_args=(self.place, sent, attempts, ATTEMPTS * size),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=self.place.threads,
            num_gpus=1 if self.place.backend == "cuda" else None,
        )


@contextmanager
def open_ray_fleet(address: str | None, place: Place, workers: int | None) -> Iterator[RayFleet]:
    """Yield workers on a Ray cluster that end with the block.

    Arguments:
        address: as in `cluster`.
        place: the bundle to open. Its backend "auto" is CUDA if the cluster has GPUs and onnxruntime-gpu is installed
            on this machine, otherwise the CPU.
        workers: number of workers; None is one for each GPU, or one for every `place.threads` cores of a machine.

    Raises:
        InputError: if the cluster cannot be reached, or no machine has enough cores, or a GPU, for a worker.
    """
    with quiet(), cluster(address) as ray:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        auto = "cuda" if gpus and _has_gpu_package() else "cpu"
        backend = auto if place.backend == "auto" else place.backend
        room = gpus if backend == "cuda" else sum(int(node.get("CPU", 0)) // place.threads for node in nodes)
        if not room:
            wanted = (
                "a GPU; give --backend cpu" if backend == "cuda" else f"{place.threads} cores; give fewer --threads"
            )
            raise InputError(f"no machine of the cluster has {wanted}")
        heed_sigterm()  # again, because Ray has replaced the handler
        settings = {**place.settings, "backend": f"onnxruntime {backend}"}
        yield RayFleet(ray, replace(place, backend=backend, settings=settings), workers or room)


class Attempts:
    """Actor that counts how often each unit was begun without being finished.

    Ray restarts workers that die. This count stops a unit that kills its worker from being tried forever.
    """

    def __init__(self) -> None:
        self.begun: Counter[int | None] = Counter()

    def begin(self, number: int | None) -> int:
        """Count the beginning of a unit, or of opening a pipeline if `number` is None. Return the count so far."""
        self.begun[number] += 1
        return self.begun[number]

    def end(self, number: int | None) -> None:
        """Remove the count of a unit, or of opening a pipeline if `number` is None, because it is finished."""
        del self.begun[number]


class Worker:
    """Actor that processes units. It returns exceptions as results: Ray would print them and change their types."""

    def __init__(self, place: Place, do: bytes, attempts: Any, most_starts: int) -> None:
        import ray

        self.ray, self.attempts = ray, attempts
        self.wrong: Exception | None = None
        try:
            if self._begin(None) > most_starts:
                raise BackendError(
                    f"{most_starts} workers in a row died while they opened {place.bundle}, perhaps for lack of "
                    "memory; give fewer --workers"
                )
            self.pipe = open_pipeline(place)
            self.do = pickle.loads(do)
        except Exception as error:
            self.wrong = _explained(error)
        self.attempts.end.remote(None)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Process parts of the work, and return their pickled results."""
        return {"results": [pickle.dumps(self.wrong or self._do(pickle.loads(work))) for work in batch["work"]]}

    def _do(self, part: list[tuple[int, Any]]) -> list[tuple[int, Any]] | Exception:
        results = []
        for number, unit in part:
            try:
                is_lost = self._begin(number) > ATTEMPTS
                results.append((number, None if is_lost else self.do(self.pipe, unit)))
            except Exception as error:
                return _explained(error)
            self.attempts.end.remote(number)
        return results

    def _begin(self, number: int | None) -> int:
        return int(self.ray.get(self.attempts.begin.remote(number)))


def _explained(error: Exception) -> Exception:
    """Return an error with the name of this machine. An unexpected error keeps its type and gets its traceback."""
    if isinstance(error, CaflowError | OSError):
        return InputError(f"on {socket.gethostname()}: {error}")
    error.add_note(traceback.format_exc())
    return error


def _has_gpu_package() -> bool:
    from caflow_runtime.backends.onnx_packages import is_installed

    return is_installed("onnxruntime-gpu")
