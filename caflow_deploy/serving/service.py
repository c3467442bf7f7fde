"""What the models of a server have in common: tensors and parameters in, tensors out, for every serving engine."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from caflow_deploy.serving.metrics import Metrics
from caflow_deploy.serving.model_instruments import Prometheus, buckets_of
from caflow_deploy.serving.request import (
    Answer,
    Checked,
    Request,
    ScoreParameters,
    Tensors,
    TensorSpec,
    checked_parameters,
)
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.errors import CaflowError, InputError
from caflow_runtime.file_io.paths import as_text
from caflow_runtime.image_arrays import Image, as_images
from caflow_runtime.ood.typicality_records import TypicalityModel
from caflow_runtime.pipeline.pipeline import Pipeline

MAX_REQUEST_PIXELS = 2**23
"""Default for the largest number of result pixels in a request, over all samples."""
SMALLEST = 2**10
"""Smallest number of pixels that a sample counts as, because smaller samples take as long."""
MAX_NAMED = 4
"""Largest number of received inputs that an error names."""


class Service(ABC):
    """Model that is served. Only one thread may call it at a time."""

    suffix: ClassVar[str]
    inputs: ClassVar[tuple[TensorSpec, ...]]
    outputs: ClassVar[tuple[TensorSpec, ...]]
    parameters: ClassVar[type[DrawOptions] | type[ScoreParameters]]

    @classmethod
    def inputs_of(cls, condition_channels: int) -> tuple[TensorSpec, ...]:
        """Return the inputs of a model whose conditions have this many channels."""
        return tuple(
            spec if spec.name == "target" else replace(spec, shape=(*spec.shape[:-1], condition_channels))
            for spec in cls.inputs
        )

    def __init__(
        self, pipe: Pipeline, max_pixels: int = MAX_REQUEST_PIXELS, instruments: Prometheus | None = None
    ) -> None:
        """Serve the model of an open pipeline.

        Arguments:
            max_pixels: largest number of result pixels in a request, over all samples.
            instruments: those of the worker, in which requests are counted; None counts nothing.
        """
        self.pipe = pipe
        self.max_pixels = max_pixels
        # All models of a bundle share the buckets, because they share a histogram.
        own = pipe.manifest.model.sampling.temperature
        buckets = buckets_of(pipe.likelihoods.typicality_model(own), pipe.likelihoods.typicality_model(None))
        typicality_model = self._typicality_model()
        self.metrics = None if instruments is None else Metrics(pipe, typicality_model, instruments, buckets, self.name)

    @property
    def name(self) -> str:
        """Name of the model, by which clients request it."""
        return as_text(self.pipe.folder.stem) + self.suffix

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Return the answers to requests, in order. Requests with the same parameters are computed together.

        A wrong request does not affect the others. Values are those of a call of the pipeline, except for their last
        bits, which depend on the requests that were computed together.
        """
        answers: dict[int, Answer] = {}
        alike: dict[Any, list[Checked]] = {}
        for k, request in enumerate(requests):
            if request.until < time.monotonic():  # its images may be gone
                answers[k] = self._too_late()
                continue
            try:
                parameters, checked = self._checked(k, request)
            except InputError as error:
                answers[k] = self._failed(error)
            else:
                alike.setdefault(parameters, []).append(checked)
        for parameters, members in alike.items():
            for group in self._groups(members):
                now = time.monotonic()
                answers |= {one.number: self._too_late() for one in group if one.until < now}
                wanted = [one for one in group if one.until >= now]
                answers |= zip([one.number for one in wanted], self._answers(parameters, wanted), strict=True)
        return [answers[k] for k in range(len(requests))]

    def check(self) -> None:
        """Check that the model works, by drawing a small sample.

        Raises:
            Exception: of any type, if the model does not work.
        """
        black = np.zeros((8, 8, self.pipe.manifest.model.condition_channels), np.uint8)
        best = self.pipe.best_of(black, n=1, temperature=0.0)
        if not np.isfinite(best.log_likelihood).all():
            raise ValueError("the likelihood of a sample is not finite")

    def _checked(self, number: int, request: Request) -> tuple[Any, Checked]:
        """Return the parameters of a request, and the checked request.

        Raises:
            InputError: if the request is wrong, or too large.
        """
        names = [spec.name for spec in self.inputs]
        if request.tensors.keys() != set(names):
            got = ", ".join([*islice(request.tensors, MAX_NAMED), "…"][: len(request.tensors)])
            raise InputError(f"inputs of {self.name}: expected {', '.join(names)}; got {got or 'none'}")
        for name, tensor in request.tensors.items():
            if 0 in tensor.shape:  # check this first: the other sizes may be huge
                shape = tuple(tensor.shape)
                raise InputError(f"{name} must contain at least one image of at least one pixel; got shape {shape}")
        parameters = checked_parameters(request, self.parameters, self.name)
        specs = self.inputs_of(self.pipe.manifest.model.condition_channels)
        images = [as_images(np.asarray(request.tensors[spec.name]), spec.name, spec.shape[-1]) for spec in specs]
        parameters = self._for_images(parameters, images)
        self._check(parameters, images)
        pixels = self._pixels(parameters, images)
        if pixels > self.max_pixels:
            raise InputError(
                f"a request must have at most {self.max_pixels} result pixels over all samples; got {pixels}: request "
                "fewer samples or smaller images, or raise max_pixels of the server"
            )
        return parameters, Checked(number, request.until, images, pixels)

    def _groups(self, members: Sequence[Checked]) -> Iterator[list[Checked]]:
        """Yield groups of requests to compute together. A group has no more result pixels than one request may have."""
        group: list[Checked] = []
        for one in members:
            if group and sum(other.pixels for other in group) + one.pixels > self.max_pixels:
                yield group
                group = []
            group.append(one)
        yield group

    def _answers(self, parameters: Any, requests: list[Checked]) -> list[Answer]:
        """Return the answers to requests with the same parameters. If they fail together, compute each separately."""
        if not requests:
            return []
        try:
            return self._compute(parameters, requests)
        except (CaflowError, MemoryError) as error:
            if len(requests) == 1:
                return [self._failed(error)]
        return [answer for request in requests for answer in self._answers(parameters, [request])]

    def _stage(self, name: str) -> AbstractContextManager[None]:
        return self.metrics.stage(name) if self.metrics else nullcontext()

    def _failed(self, error: CaflowError | MemoryError | TimeoutError) -> CaflowError | MemoryError | TimeoutError:
        if self.metrics and not isinstance(error, InputError):  # a wrong request is no error of the server
            self.metrics.observe_error(error)
        return error

    def _too_late(self) -> Answer:
        """Return the error for a request whose deadline has passed."""
        return self._failed(TimeoutError("the request was not computed before its deadline"))

    def _timely(self, answers: list[Tensors], late: list[bool]) -> list[Answer]:
        """Return the answers, with an error in place of each that is late."""
        return [self._too_late() if is_late else answer for answer, is_late in zip(answers, late, strict=True)]

    @abstractmethod
    def _typicality_model(self) -> TypicalityModel | None:
        """Return the typicality model that drift is measured against; None if there is none."""

    def _for_images(self, parameters: Any, images: list[list[Image]]) -> Any:
        """Return the parameters for these images, with what is not given.

        Raises:
            InputError: if the model does not support them.
        """
        return parameters

    @abstractmethod
    def _check(self, parameters: Any, images: list[list[Image]]) -> None:
        """Check that the model can compute a request with these parameters and images.

        Raises:
            InputError: if it cannot.
        """

    @abstractmethod
    def _pixels(self, parameters: Any, images: list[list[Image]]) -> int:
        """Return the number of result pixels, over all samples."""

    @abstractmethod
    def _compute(self, parameters: Any, requests: list[Checked]) -> list[Answer]:
        """Compute requests together, and return the answer to each.

        Raises:
            CaflowError, MemoryError
        """


def count_images(requests: Sequence[Checked]) -> list[int]:
    """Return the number of images of each request."""
    return [len(one.images[0]) for one in requests]


def are_late(requests: Sequence[Checked]) -> list[bool]:
    """Return whether the deadline of each request has passed."""
    now = time.monotonic()
    return [one.until < now for one in requests]


def count_pixels(images: list[Image], scale: int) -> int:
    """Return the result pixels of one sample of each image. A smaller sample counts as `SMALLEST` pixels."""
    return sum(max(SMALLEST, image.shape[0] * image.shape[1] * scale**2) for image in images)
