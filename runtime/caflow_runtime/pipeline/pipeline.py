"""The runtime: images in; samples with likelihoods, best-of-N, and scores out. No PyTorch.

pipe = load("x4.caflow")
best = pipe.best_of(images, n=10, temperature=0.8, seed=0)
best.images, best.log_likelihood, best.bits_per_dim
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.backends.parity import check_parity
from caflow_runtime.backends.select import BackendName, open_backend
from caflow_runtime.bundle import builtin
from caflow_runtime.bundle.manifest import Manifest
from caflow_runtime.checks import check_integer, check_switch, shown
from caflow_runtime.errors import InputError
from caflow_runtime.flow.noise import as_noise
from caflow_runtime.image import Image, Images, as_image, as_images, check_pairs
from caflow_runtime.judge.calibration import Calibration, read_calibration
from caflow_runtime.judge.typicality import check_alpha
from caflow_runtime.pipeline.choice import finite_pixels
from caflow_runtime.pipeline.drawing import Written, draw_all, draw_best, reference_for, score_rows
from caflow_runtime.pipeline.likelihoods import Likelihoods, check_finite
from caflow_runtime.pipeline.need import Needs
from caflow_runtime.pipeline.on_device import DeviceBest, best_on_device
from caflow_runtime.pipeline.results import Best, Encoded, Samples, Score, stack
from caflow_runtime.pipeline.stream import Frame, FrameNoise, Stream, StreamSettings, Untypical
from caflow_runtime.rows.draw import Draw, Rank, Reject
from caflow_runtime.rows.runner import LevelNoises, Runner, ShowWindows

PIXEL_BUDGET = 2**20
OVERLAP = 64
MOST_PIXELS = 2**62
"""Of a budget: a signed 64-bit integer holds it."""


def load(
    bundle: str | Path = builtin.DEFAULT,
    backend: BackendName = "auto",
    threads: int = 0,
    pixel_budget: int = PIXEL_BUDGET,
    overlap: int = OVERLAP,
    is_calibrated: bool = True,
) -> "Pipeline":
    """Open a bundle, its files checked against their hashes.

    Arguments:
        bundle: a folder that caflow-export wrote, or the name of a built-in model.
        backend: "cpu" and "cuda" run in ONNX Runtime, "openvino" in OpenVINO on the CPU, "tensorrt" the bundle's
            engines, or they fail; "auto" is CUDA where ONNX Runtime can use it, else its CPU. "ort:NAME" is any
            execution provider of ONNX Runtime, such as "ort:dml": it is compared with the CPU first, and must agree.
        threads: on the CPU; 0 is one per core.
        pixel_budget: target pixels in one run of the graphs, rows taken together: what bounds the memory, at some 300
            bytes each for small models. Larger images are cut into tiles. Results, and the float32 pixels of tiled
            images that are not finished, come on top.
        overlap: of tiles, in target pixels.
        is_calibrated: False opens the bundle without its calibration, which is then neither read nor checked.

    Raises:
        BundleError: one of its subclasses for each way in which a bundle can be wrong.
        BackendError: if the backend cannot run here.
    """
    check_integer("pixel_budget", pixel_budget, 1, MOST_PIXELS)
    check_integer("overlap", overlap, 0, MOST_PIXELS)
    folder = builtin.find_bundle(bundle)
    graphs = Graphs(folder, open_backend(backend, folder, threads))
    if not graphs.backend.is_proven:
        check_parity(graphs)
    return Pipeline(graphs, pixel_budget, overlap, is_calibrated)


class Pipeline:
    """A model that is ready to run. Any number of threads may use one at the same time; `load` makes it.

    Images are (B, H, W, 3) or (H, W, 3) uint8 RGB, or a list of (H, W, 3) of any sizes. What is drawn for an image
    depends on the image, the seed, the frame and the number of the sample alone: neither on the batch nor on n.
    """

    def __init__(self, graphs: Graphs, pixel_budget: int, overlap: int, is_calibrated: bool = True) -> None:
        self._graphs = graphs
        self._model = graphs.manifest.model
        self._runner = Runner(graphs, pixel_budget, overlap)
        self._needs = Needs(graphs, self._runner)
        calibration = read_calibration(graphs.folder) if is_calibrated else None
        self._likelihoods = Likelihoods(graphs.folder, self._model, calibration)

    @property
    def manifest(self) -> Manifest:
        """Of the bundle."""
        return self._graphs.manifest

    @property
    def folder(self) -> Path:
        """Of the bundle."""
        return self._graphs.folder

    @property
    def calibration(self) -> Calibration:
        """Which likelihoods are typical.

        Raises:
            InputError: if the bundle is not calibrated.
        """
        return self._likelihoods.calibration

    @property
    def graphs(self) -> Graphs:
        """Of the bundle, on the backend."""
        return self._graphs

    @property
    def backend(self) -> str:
        """What runs the graphs, such as "onnxruntime cpu"."""
        return self._graphs.backend.name

    @property
    def needs(self) -> Needs:
        """Says what drawing and scoring take."""
        return self._needs

    def tiles(self, condition: Image) -> list[tuple[int, int]]:
        """Height and width in target pixels of each tile of a condition, (h, w, 3) uint8; padded, at least one.

        Raises:
            InputError: if the pixel budget is too small for the overlap, or the model's images cannot be cut.
        """
        return [window.shape for window in self._runner.windows(as_image(condition, "condition"))]

    def best_of(
        self,
        images: Images,
        n: int = 10,
        temperature: float | Sequence[float] = 0.8,
        seed: int = 0,
        frame: int = 0,
        rank: Rank = "likelihood",
        keep: Sequence[int] | None = None,
        consistent: bool = False,
        show: ShowWindows | None = None,
        reject: Reject | None = None,
    ) -> Best:
        """The best of `n` samples of each image.

        Arguments:
            temperature: τ, or one for each level, coarsest first.
            seed, frame: choose the noise, 0 … 2³²−1.
            rank: by log-likelihood, as in the paper; by how well the sample, degraded again, matches the image; or by
                how close its bits per dimension are, level by level, to what is typical of samples (`calibration`).
            keep: progressive best-of-N: how many samples run at each level, the first of them `n`. After a level the
                most likely so far go on. An approximation: what is dropped might have won.
            consistent: for super-resolution: the winner, ranked as drawn, is changed to down-sample to the image,
                as far as values in 0…255 go, and scored again as an image.
            show: is given how many windows of samples are done, and how many there are: for a progress bar.
            reject: samples that are not taken for being untypical; others are drawn in their place.

        Raises:
            InputError: if an argument is not what it should be.
            NotFinite: if no sample of an image is finite.
            Untypical: if all of them are rejected, and `reject` wants an error then.
        """
        draw = Draw(n, temperature, seed, frame, rank, keep, consistent, reject)  # type: ignore[arg-type]
        return self.draw_best(images, draw, show)

    def draw_best(
        self, images: Images, draw: Draw, show: ShowWindows | None = None, written: Written | None = None
    ) -> Best:
        """What `best_of` gives, of arguments that are checked already; `written`: what results are written as."""
        given = as_images(images, "images")
        return draw_best(self._runner, self._likelihoods, given, draw, show, written or Written())

    def run(
        self,
        condition: object,
        n: int = 1,
        temperature: float | Sequence[float] = 0.8,
        seed: int = 0,
        frame: int = 0,
    ) -> DeviceBest:
        """The best of `n` samples by log-likelihood, as `best_of` draws them, without a way through the host.

        Arguments:
            condition: (B, h, w, 3) uint8 RGB in the memory of the device that the backend runs on, contiguous, by
                DLPack or `__cuda_array_interface__`; on the CPU any array of the host. ONNX Runtime ("cuda") does not
                wait for work that is still to write it.

        Raises:
            InputError: also if the images would have to be padded or cut, or do not all run at once.
            NotFinite: if no sample of an image is finite.
            MemoryError: if it does not fit: nothing is halved here.
        """
        draw = Draw(n, temperature, seed, frame)  # type: ignore[arg-type]
        draw.check_fits(self._model)
        return best_on_device(self._runner.chain, self._runner.room(), condition, draw)

    def sample(
        self,
        images: Images,
        n: int = 10,
        temperature: float | Sequence[float] = 0.8,
        seed: int = 0,
        frame: int = 0,
        rank: Rank = "likelihood",
        consistent: bool = False,
        show: ShowWindows | None = None,
    ) -> Samples:
        """All `n` samples of each image, the best first. Arguments as in `best_of`.

        Raises:
            InputError: if an argument is not what it should be.
            NotFinite: if any sample is not finite.
        """
        draw = Draw(n, temperature, seed, frame, rank, None, consistent)  # type: ignore[arg-type]
        return self.draw_all(images, draw, show)

    def draw_all(self, images: Images, draw: Draw, show: ShowWindows | None = None, is_deep: bool = False) -> Samples:
        """What `sample` gives, of arguments that are checked already; with `is_deep` also in 16 bits."""
        return draw_all(self._runner, self._likelihoods, as_images(images, "images"), draw, show, is_deep)

    def stream(
        self,
        frames: Iterable[Image],
        n: int = 1,
        temperature: float | Sequence[float] = 0.8,
        seed: int = 0,
        rank: Rank = "likelihood",
        noise: FrameNoise = "fixed",
        batch: int = 1,
        min_typicality: float = 0.0,
        replaces: bool = False,
    ) -> Iterator[Frame]:
        """Frames of a video, (H, W, 3) uint8 RGB, one after the other, steady in time; a result for each, in order.

        A frame of which no sample is finite is the input, enlarged, and says that it is `rejected`.

        Arguments:
            n: samples of a scene's first frame; the best one's number and noise are kept through the scene.
            temperature, seed, rank: as in `best_of`.
            noise: "fixed" through a scene, "fresh" for each frame, or ρ of an AR(1) process, 0 < ρ < 1.
            batch: frames that run together where the noise is fixed. A frame is given when its batch is full, or its
                scene ends; nothing but these frames is held.
            min_typicality: frames of less are said to be untypical, and with `replaces` are the input, enlarged.

        Raises:
            InputError: if an argument, or a frame, is not what it should be.
        """
        try:
            frames = iter(frames)
        except TypeError:
            raise InputError(f"frames: wanted images one after the other, got {shown(frames)}") from None
        checked = (as_image(frame, f"frames[{k}]") for k, frame in enumerate(frames))
        draw = Draw(n, temperature, seed, 0, rank)  # type: ignore[arg-type]
        check_switch("replaces", replaces)
        untypical: Untypical = "bicubic" if replaces else "mark"
        return self.open_stream(StreamSettings(draw, noise, batch, min_typicality, untypical))(checked)

    def open_stream(self, settings: StreamSettings) -> Stream:
        """What `stream` gives its frames to; it can be told what an earlier run did.

        Raises:
            InputError: if the model cannot be drawn from so.
        """
        draw, known = settings.draw, self._likelihoods
        if settings.size is not None:
            settings.size.check_fits(self._model.task, self._model.scale)
        reference = reference_for(self._runner, known, draw)
        if settings.min_typicality > 0:
            reference = known.wanted_reference(draw.temperature)
            check_alpha(settings.min_typicality, reference)
        return Stream(self._runner, settings, reference or known.reference(draw.temperature))

    def score(self, target: Images, condition: Images, show: ShowWindows | None = None) -> Score:
        """log p(target | condition) of images, at the middle of the cells of their integers.

        Raises:
            InputError: also if a target is not `scale` times its condition in height and width.
            NotFinite: if the model cannot score it.
        """
        targets, conditions = self._pairs(target, condition)
        rows = score_rows(self._runner, targets, conditions, show)
        return Score(density_at="image", **self._likelihoods.parts(rows, conditions, None))

    def encode(self, target: Images, condition: Images) -> Encoded:
        """The noise that makes each target from its condition, and its likelihood; `decode` goes back.

        Raises:
            InputError: also if an image needs more than one tile.
        """
        targets, conditions = self._pairs(target, condition)
        encoded = [self._runner.encode(*pair) for pair in zip(targets, conditions, strict=True)]
        for k, (_, row) in enumerate(encoded):
            check_finite(row, f"target[{k}]")
        return Encoded(
            noise=[[z[0] for z in noise] for noise, _ in encoded],
            density_at="image",
            **self._likelihoods.parts([row for _, row in encoded], conditions, None),
        )

    def decode(self, noise: Sequence[Sequence[NDArray[np.float32]]], condition: Images) -> Best:
        """The image that each noise makes from its condition; the noise as `encode` gives it.

        Raises:
            InputError: also if the noise does not fit the condition.
            NotFinite: if the image is not finite.
        """
        conditions = as_images(condition, "condition")
        given: list[LevelNoises] = [[z[None] for z in of_image] for of_image in as_noise(noise, len(conditions))]
        rows = [self._runner.decode(*pair) for pair in zip(given, conditions, strict=True)]
        return Best(
            images=stack([finite_pixels(replace(row, image=k)).integers() for k, row in enumerate(rows)]),
            sample=np.zeros(len(rows), np.int64),
            outcome=["unjudged"] * len(rows),
            density_at="sample",
            **self._likelihoods.parts(rows, conditions, None),
        )

    def close(self) -> None:
        """Let go of the graphs; the pipeline cannot be used after."""
        self._graphs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _pairs(self, target: Images, condition: Images) -> tuple[list[Image], list[Image]]:
        targets, conditions = as_images(target, "target"), as_images(condition, "condition")
        check_pairs(targets, conditions, self._model.scale)
        return targets, conditions
