"""Model for the Python backend of Triton. `caflow-export --triton` writes the model repository that uses it.

Only processes of Triton can import this module, because `triton_python_backend_utils` exists only there.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import triton_python_backend_utils as backend

from caflow_deploy.serving.failures import MAX_TEXT
from caflow_deploy.serving.request import Answer, Request
from caflow_deploy.serving.served_models import SERVICES
from caflow_runtime.errors import CaflowError, InputError
from caflow_runtime.pipeline.pipeline import load


class TritonPythonModel:
    """One instance of a model. Triton runs each instance in a separate process and calls it from one thread."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the bundle that is named in `config.pbtxt`."""
        check_tensors()
        parameters = json.loads(args["model_config"])["parameters"]
        given = {name: value["string_value"] for name, value in parameters.items()}
        backend.Logger.log_info(f"caflow: loading {args['model_name']}, which takes seconds to minutes")
        name: Any = given["backend"]  # load checks it
        self.pipe = load(Path(args["model_repository"]).parent / given["bundle"], name, int(given["threads"]))
        kinds = {self.pipe.folder.stem + kind.suffix: kind for kind in SERVICES}
        if (name := args["model_name"]) not in kinds:
            raise InputError(f"model must be one of {', '.join(kinds)}, by the name of its bundle; got {name!r}")
        self.service = kinds[name](self.pipe, int(given["max_pixels"]), TritonInstruments(name))
        self.service.check()
        backend.Logger.log_info(f"caflow: {name} is ready, on {self.pipe.backend}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return a response to each request, in order. Triton passes several waiting requests at once."""
        asked = [
            Request({tensor.name(): tensor.as_numpy() for tensor in request.inputs()}, json.loads(request.parameters()))
            for request in requests
        ]
        return [
            self._response(request, answer)
            for request, answer in zip(requests, self.service.answer(asked), strict=True)
        ]

    def finalize(self) -> None:
        """Close the bundle."""
        self.pipe.close()

    def _response(self, request: Any, answer: Answer) -> Any:
        if isinstance(answer, BaseException):
            return backend.InferenceResponse(
                [], backend.TritonError(str(answer)[:MAX_TEXT] or "memory ran out", _code(answer))
            )
        wanted = request.requested_output_names()
        return backend.InferenceResponse(
            [backend.Tensor(name, np.ascontiguousarray(tensor)) for name, tensor in answer.items() if name in wanted]
        )


def check_tensors() -> None:
    """Check that tensors pass through Triton unchanged. Triton 24.10 with NumPy 2 silently changes their values.

    Raises:
        RuntimeError: if tensors are changed.
    """
    given = np.arange(6, dtype=np.float64).reshape(2, 3)
    found = backend.Tensor("given", given).as_numpy()
    if found.shape != given.shape or not np.array_equal(found, given):
        raise RuntimeError(
            f"this version of Triton changes the values of tensors with NumPy {np.__version__}; install 'numpy<2'"
        )


class TritonInstruments:
    """Factory of Triton's metrics. Triton serves them under the names of `Metrics`."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._kept: list[Instrument] = []
        """Metrics that were made. Triton removes metrics without a reference."""

    def counter(self, name: str, text: str, labels: Sequence[str]) -> Any:
        return self._made(f"{name}_total", text, backend.MetricFamily.COUNTER, labels)

    def gauge(self, name: str, text: str, labels: Sequence[str]) -> Any:
        return self._made(name, text, backend.MetricFamily.GAUGE, labels)

    def histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Any:
        return self._made(name, text, backend.MetricFamily.HISTOGRAM, labels, buckets=list(buckets))

    def _made(self, name: str, text: str, kind: Any, labels: Sequence[str], **more: Any) -> Any:
        family = backend.MetricFamily(name=name, description=text, kind=kind)
        self._kept.append(Instrument(family, tuple(labels), {"model": self.model}, more, {}))
        return self._kept[-1]


@dataclass(frozen=True)
class Instrument:
    """Family of Triton's metrics, with the values of its labels. Each metric is made at its first use."""

    family: Any
    names: tuple[str, ...]
    tags: dict[str, str]
    more: dict[str, Any]
    made: dict[tuple[str, ...], Any]

    def labels(self, *values: str) -> Self:
        """Return the metric with these values of its labels. The label `model` is kept."""
        tags = dict(zip(self.names, values, strict=True)) | self.tags
        bound = type(self)(self.family, (), tags, self.more, self.made)
        bound._metric()  # so that it is exported with the value 0
        return bound

    def inc(self, amount: float = 1) -> None:
        """Increase a counter."""
        self._metric().increment(amount)

    def set(self, value: float) -> None:
        """Set a gauge."""
        self._metric().set(value)

    def observe(self, value: float) -> None:
        """Add a value to a histogram."""
        self._metric().observe(value)

    def _metric(self) -> Any:
        key = tuple(self.tags.values())
        if key not in self.made:
            self.made[key] = self.family.Metric(labels=self.tags, **self.more)
        return self.made[key]


def _code(error: BaseException) -> Any:
    if isinstance(error, InputError):
        return backend.TritonError.INVALID_ARG
    return backend.TritonError.INTERNAL if isinstance(error, CaflowError) else backend.TritonError.UNAVAILABLE
