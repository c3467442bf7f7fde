"""Workers that are actors on the machines of a Ray cluster, by Ray Data."""

import logging
import pickle
import socket
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from caflow_deploy.cluster.cluster import cluster
from caflow_deploy.cluster.fleet import ATTEMPTS, Place, Result, Unit, Work, open_pipeline
from caflow_deploy.cluster.quiet import quiet
from caflow_deploy.stops import heed_sigterm
from caflow_runtime.errors import BackendError, CaflowError, InputError

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class RayFleet:
    """Actors of a cluster."""

    ray: Any
    place: Place
    size: int

    @property
    def backend(self) -> str:
        """As `Pipeline.backend` is of the actors' pipelines."""
        return str(self.place.settings["backend"])

    def run(self, work: Work[Unit, Result]) -> Iterator[tuple[Unit, Result | None]]:
        """As `Fleet.run`."""
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
            # Its last line is the cause; those before say where it came from.
            cause = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise BackendError(f"Ray cannot go on: {cause}") from None

    def _dataset(self, rows: list[dict[str, bytes]], work: Work[Any, Any]) -> Any:
        import ray.data
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what is raised is said
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.execution_no_progress_timeout_s = -1  # an image may be as large as it likes
        context.execution_options.preserve_order = work.in_order
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        attempts = ray.remote(Attempts).options(num_cpus=0, scheduling_strategy=here).remote()
        size = min(self.size, len(rows))
        sent = pickle.dumps(work.do)  # an actor silences OpenCV before it loads what imports it
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
    """Actors on a cluster; they end with the block.

    Arguments:
        address: as of `cluster`.
        place: its backend may be "auto": CUDA where the cluster has GPUs, and ONNX Runtime's package for them is
            installed here.
        workers: actors; by default one on each GPU, or on so many processors as it has threads.

    Raises:
        InputError: if the cluster cannot be reached, or no machine of it is large enough for an actor.
    """
    with quiet(), cluster(address) as ray:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        auto = "cuda" if gpus and _has_gpu_package() else "cpu"
        backend = auto if place.backend == "auto" else place.backend
        room = gpus if backend == "cuda" else sum(int(node.get("CPU", 0)) // place.threads for node in nodes)
        if not room:
            wanted = "a GPU" if backend == "cuda" else f"{place.threads} processors: give fewer --threads"
            raise InputError(f"no machine of the cluster has {wanted}")
        heed_sigterm()  # again: Ray has set its own handler
        settings = {**place.settings, "backend": f"onnxruntime {backend}"}
        yield RayFleet(ray, replace(place, backend=backend, settings=settings), workers or room)


class Attempts:
    """An actor that knows what was begun and not ended: what kills its actor is not to be begun for ever."""

    def __init__(self) -> None:
        self.begun: Counter[int | None] = Counter()

    def begin(self, number: int | None) -> int:
        """How often a unit, or with None the opening of a pipeline, was begun since it was last ended."""
        self.begun[number] += 1
        return self.begun[number]

    def end(self, number: int | None) -> None:
        """It was."""
        del self.begun[number]


class Worker:
    """An actor. What goes wrong is a result as well: Ray would print it, and lose the exception's own type."""

    def __init__(self, place: Place, do: bytes, attempts: Any, most_starts: int) -> None:
        import ray

        self.ray, self.attempts = ray, attempts
        self.wrong: Exception | None = None
        try:
            if self._begin(None) > most_starts:
                raise BackendError(
                    f"{most_starts} workers in a row died while they opened {place.bundle}: perhaps memory is short, "
                    "give fewer --workers"
                )
            self.pipe = open_pipeline(place)
            self.do = pickle.loads(do)
        except Exception as error:
            self.wrong = _explained(error)
        self.attempts.end.remote(None)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """One part of the work."""
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
    """With the machine's name; of what is not expected also where it was raised."""
    if isinstance(error, CaflowError | OSError):
        return InputError(f"on {socket.gethostname()}: {error}")
    error.add_note(traceback.format_exc())
    return error


def _has_gpu_package() -> bool:
    from caflow_runtime.backends.onnx_runtime import is_installed

    return is_installed("onnxruntime-gpu")
