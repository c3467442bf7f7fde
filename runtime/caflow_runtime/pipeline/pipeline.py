"""The runtime's Python API: draws samples of images, chooses the best of N, and scores images. It needs no PyTorch.

pipe = load("x4.caflow")
best = pipe.best_of(images, n=10, temperature=0.8, seed=0)
best.images, best.log_likelihood, best.bits_per_dim
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.backends.parity import check_once
from caflow_runtime.backends.select import BackendName, open_backend
from caflow_runtime.batching.batch_arrays import padded
from caflow_runtime.batching.draw_options import DrawFields, DrawOptions, options_with
from caflow_runtime.batching.runner import Runner, ShowWindows
from caflow_runtime.batching.single_item import LevelNoises, decode_noise, encode_target
from caflow_runtime.bundle import builtin
from caflow_runtime.checks import check_callback, check_integer, check_switch, checked_path, shown
from caflow_runtime.degradation import described
from caflow_runtime.errors import InputError
from caflow_runtime.flow.noise import as_noise
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.image_arrays import Image, Images, as_image, as_images, check_pairs
from caflow_runtime.ood.calibration import read_calibration
from caflow_runtime.pipeline.calibrated_likelihoods import check_finite
from caflow_runtime.pipeline.choice import finite_pixels
from caflow_runtime.pipeline.estimates import MemoryEstimates, SpeedTrials
from caflow_runtime.pipeline.named_inputs import finish, prepare_condition, target_of
from caflow_runtime.pipeline.on_device import DeviceBest, best_on_device
from caflow_runtime.pipeline.open_model import OpenModel
from caflow_runtime.pipeline.results import Best, Encoded, Samples, Score, stack
from caflow_runtime.pipeline.sampling import sample_all, sample_best, score_items
from caflow_runtime.pipeline.stream import Frame, FrameNoise, Stream, StreamSettings
from caflow_runtime.sizes import Size


def load(
    model: str | Path = builtin.DEFAULT,
    backend: BackendName = "auto",
    threads: int = 0,
    *,
    assume: Mapping[str, float] | None = None,
    tiling: Tiling = Tiling(),
    is_calibrated: bool = True,
) -> "Pipeline":
    """Open a bundle. Its files are checked against their hashes.

    Graphs are loaded when they are first needed, and their files are checked again then. If a file has changed in
    between, the call that needs it raises `BundleError`, or `BackendError` if it is an engine, and the bundle must be
    opened again. Replace files of an open bundle only by new files, as `mv` does, and never write into them, because
    ONNX Runtime reads weights from the file while graphs run.

    Arguments:
        model: name of a built-in model, by default "x4-photo"; or a bundle, a folder that caflow-export wrote.
        backend: "cpu", "cuda", "tensorrt" and "tensorrt-rtx" run the graphs in ONNX Runtime, with the execution
            provider of that name. "ort:NAME" is another execution provider, such as "ort:openvino". The number of a
            device may follow, as in "cuda:1". "openvino" is OpenVINO's own library on the CPU. "auto" is "cuda" if ONNX
            Runtime can use CUDA, else "cpu". The first time that a bundle is opened on a backend other than the CPU,
            its results are compared with those of the CPU, and must agree; that is remembered in the user's cache.
        threads: number of threads on the CPU; 0 is one per core.
        assume: what is known of the degradation of all images, for models such as x4-real that estimate it otherwise:
            "blur", the standard deviation of the blur in pixels of the result; "noise", that of the noise in grey
            levels of the image; "jpeg", the quality of the JPEG file; "video", the constant rate factor of H.264, 0 for
            none. Example: {"blur": 2.0, "noise": 0.0}.
        tiling: how much is computed at once, and how larger images are cut.
        is_calibrated: False ignores the bundle's calibration, which is then neither read nor checked.

    Raises:
        BundleError: if the bundle is not valid. Each kind of defect has its own subclass.
        BackendError: if the backend cannot run on this machine.
        InputError: if another argument is not valid.
    """
    check_switch("is_calibrated", is_calibrated)
    if not isinstance(tiling, Tiling):
        raise InputError(f"tiling must be Tiling, such as Tiling(pixel_budget=2**20); got {shown(tiling)}")
    folder = builtin.find_bundle(checked_path("model", model))
    graphs = Graphs(folder, open_backend(backend, folder, threads))
    try:
        check_once(graphs)
        return Pipeline(graphs, tiling, is_calibrated, assume)
    except BaseException:
        graphs.close()
        raise


class Pipeline(OpenModel):
    """A model that is ready to run. `load` creates it. Any number of threads may use it at the same time.

    Images are (B, H, W, 3) or (H, W, 3) uint8 RGB arrays, or a list of (H, W, 3) arrays of any sizes. With the same
    settings, a sample depends only on the image, the seed, the frame and the number of the sample. It does not depend
    on the other images or on n, apart from rounding: the last digits can depend on which items run together.
    """

    def __init__(
        self, graphs: Graphs, tiling: Tiling, is_calibrated: bool = True, assume: Mapping[str, float] | None = None
    ) -> None:
        runner = Runner(graphs, tiling.pixel_budget, tiling.overlap, assume)
        super().__init__(runner, read_calibration(graphs.folder) if is_calibrated else None)
        self.memory = MemoryEstimates(runner)
        self.trials = SpeedTrials(runner)

    @property
    def backend(self) -> str:
        """Name of the backend that runs the graphs, such as "onnxruntime cpu"."""
        return self.runner.graphs.backend.name

    @property
    def is_told_degradation(self) -> bool:
        """Whether the model is told how its input was degraded."""
        return "estimate" in self.runner.graphs

    def assuming(self, assume: Mapping[str, float]) -> "Pipeline":
        """Return a pipeline of the same model that is also told this of the degradation of all images, as in `load`.

        It shares the graphs of this one, so close only one of the two. Values that `load` was given are kept, unless
        they are replaced.

        Raises:
            InputError: if a name or a value is not valid, or the model is not told how its input was degraded.
        """
        runner, told = self.runner, object.__new__(Pipeline)  # `copy` refuses pipelines (`__reduce__`)
        told.__dict__ |= self.__dict__
        told.runner = Runner(runner.graphs, runner.pixel_budget, runner.overlap, {**runner.assume, **assume})
        return told

    def degradation(self, condition: Image) -> dict[str, float] | None:
        """Return what the model is told of how a condition was degraded: what is known, otherwise what it estimates.

        The names are those of `assume`. None if the model is not told of degradations.

        Arguments:
            condition: (h, w, 3) uint8 RGB.
        """
        given = padded(self._condition(condition), self.runner.model, self.runner.model.scale)
        found = self.runner.degradations([given])
        return None if found is None else described(found[0])

    def tiles(self, condition: Image) -> list[tuple[int, int]]:
        """Return height and width of each tile of a condition's target, in pixels with padding.

        There is at least one tile.

        Arguments:
            condition: (h, w, 3) uint8 RGB.

        Raises:
            InputError: if the pixel budget is too small for the overlap, or the model does not support tiles.
        """
        return [window.shape for window in self.runner.windows(self._condition(condition))]

    def prepare(self, image: Image, seed: int = 0, **inputs: NDArray[Any]) -> Image:
        """Return the condition that an image makes together with the model's other inputs: (H, W, 3) uint8.

        `manifest.model.inputs` names those that the model takes. All of them may be omitted. Models that complete an
        image get a fourth channel, the mask of what is known, and models of chroma a reduced image of luma and chroma.

        Example: `pipe.best_of(pipe.prepare(image, mask=mask))`.

        Arguments:
            image: (H, W, 3) uint8 RGB.
            seed: seed of the first filling of a hole, 0 … 2³²−1.
            inputs: arrays by name. "mask" is (H, W) bool, True for the pixels to fill in. "hints" is (H, W, 4) uint8
                RGBA, opaque where a colour is given; `draw_hints` makes it from points.

        Raises:
            InputError: if an argument is not valid, the model has no input of a name, or a package is missing.
        """
        check_integer("seed", seed, 0)
        return prepare_condition(self.manifest.model, as_image(image, "image"), inputs, seed)

    def finish(self, image: NDArray[Any], drawn: NDArray[Any]) -> NDArray[Any]:
        """Return the result, (H, W, 3) RGB, that an image makes together with what the model drew for it.

        For models of chroma, it has the luma of the image, to within a grey level. For others, it is what was drawn.

        Example: `pipe.finish(image, pipe.best_of(pipe.prepare(image, hints=hints)).images[0])`.

        Arguments:
            image: (H, W, 3) uint8 or uint16 RGB, the image that `prepare` was given.
            drawn: (h, w, 3) of the same type, one of `images` or `deep` of `best_of` or `sample`.

        Raises:
            InputError: if the image and what was drawn differ in type, or do not fit in size.
        """
        return finish(self.manifest.model, image, drawn)

    def target_of(self, image: Image) -> Image:
        """Return the target, (h, w, 3) uint8, that shows an existing result, for `score` and `encode`.

        Arguments:
            image: (H, W, 3) uint8 RGB, such as a result of `finish`, or a photograph.

        Raises:
            InputError: if the image is not valid.
        """
        return target_of(self.manifest.model, as_image(image, "image"))

    def best_of(
        self,
        images: Images,
        options: DrawOptions | None = None,
        *,
        show: ShowWindows | None = None,
        **fields: Unpack[DrawFields],
    ) -> Best:
        """Draw `n` samples of each image, and return the best one.

        Example: `pipe.best_of(images, n=4, temperature=0.9)`.

        Arguments:
            options: how samples are drawn; None is `DrawOptions()`.
            show: callback for a progress bar. It receives how many windows of samples are finished, and how many there
                are in total.
            fields: fields of `DrawOptions`, in place of those of `options`. `n` is 10 unless it is given.

        Raises:
            InputError: if an argument is not valid.
            NotFinite: if no sample of an image is finite. With `otherwise` "bicubic" this is no error: the result is
                the enlarged input.
            Untypical: if all samples of an image are rejected, and `otherwise` is "drop".
        """
        check_callback("show", show)
        return sample_best(self, images, options_with(options, fields), show)

    def run(
        self,
        condition: object,
        n: int = 1,
        temperature: float | Sequence[float] | None = None,
        seed: int = 0,
        frame: int = 0,
    ) -> DeviceBest:
        """Draw `n` samples of each condition, and return the most likely one. All images stay in device memory.

        `best_of` draws the same samples.

        Arguments:
            condition: contiguous (B, h, w, 3) uint8 RGB array in the memory of the backend's device, with DLPack. On a
                GPU with CuPy, `__cuda_array_interface__` is accepted as well; without CuPy, all work that writes to the
                array must be finished.
            n: number of samples of each condition.
            temperature: as in `best_of`.
            seed: as in `best_of`.
            frame: as in `best_of`.

        Raises:
            InputError: if an argument is not valid, if images would have to be padded or cut, or if the samples do not
                all fit in one run.
            NotFinite: if no sample of a condition is finite.
            MemoryError: if memory runs out. The pixel budget is not reduced here.
        """
        options = DrawOptions(n, temperature, seed, frame, "likelihood").for_model(self.manifest)
        return best_on_device(self.runner, condition, options)

    def sample(
        self,
        images: Images,
        options: DrawOptions | None = None,
        *,
        show: ShowWindows | None = None,
        **fields: Unpack[DrawFields],
    ) -> Samples:
        """Draw `n` samples of each image, and return all of them, the best first. The arguments are those of `best_of`.

        Raises:
            InputError: if an argument is not valid, or drops samples: `keep` or `min_typicality`.
            NotFinite: if any sample is not finite.
        """
        check_callback("show", show)
        config = options_with(options, fields).for_model(self.manifest)
        if config.rejects or config.keep is not None:
            raise InputError("sample returns all samples, so it has no min_typicality and no keep: use best_of")
        return sample_all(self, images, config, show)

    def stream(
        self,
        frames: Iterable[Image],
        options: DrawOptions | None = None,
        *,
        noise: FrameNoise = "fixed",
        batch: int = 1,
        size: Size | None = None,
        **fields: Unpack[DrawFields],
    ) -> Iterator[Frame]:
        """Draw the frames of a video one after the other. Yield a result for each frame, in order.

        Static parts of the video do not flicker with the default settings. `n` samples are drawn of a scene's first
        frame; the number and the noise of the best one are used for the whole scene. If no sample of a frame is finite,
        the result is the enlarged input, and its `rejected` is True.

        Arguments:
            frames: (H, W, 3) uint8 RGB arrays.
            options: as in `best_of`, but `n` is 1 unless it is given.
            noise: "fixed" for the same noise in all frames of a scene, "fresh" for new noise in each frame, or a number
                ρ, 0 < ρ < 1, for noise that drifts: each frame's noise is ρ times the last frame's noise plus √(1 − ρ²)
                times new noise.
            batch: number of frames that run together if the noise is fixed. Results are yielded when a batch is full or
                its scene ends. No other frames are kept.
            size: size of the results; None is the size that the model makes.
            fields: fields of `DrawOptions`, as in `best_of`. Frames below `min_typicality` are not drawn again. With
                `otherwise` "drop" they are only marked, because the caller can leave them out.

        Raises:
            InputError: if an argument or a frame is not valid.
        """
        try:
            frames = iter(np.asarray(frames) if isinstance(frames, memoryview) else frames)
        except TypeError:
            raise InputError(f"frames: expected an iterable of images; got {shown(frames)}") from None
        config = options_with(options or DrawOptions(1), fields).for_model(self.manifest)
        channels = self.manifest.model.condition_channels
        checked = (as_image(frame, f"frames[{k}]", channels) for k, frame in enumerate(frames))
        return Stream(self, StreamSettings(draw=config, noise=noise, batch=batch, size=size))(checked)

    def score(self, target: Images, condition: Images, show: ShowWindows | None = None) -> Score:
        """Return log p(target | condition) of existing targets, at the middle of the interval of each value.

        The interval of an integer value w is [w, w + 1).

        Raises:
            InputError: if an argument is not valid, or if a target is not `scale` times as high and wide as its
                condition.
            NotFinite: if the log-likelihood of a target is not finite.
        """
        check_callback("show", show)
        targets, conditions = self._pairs(target, condition)
        items = score_items(self.runner, targets, conditions, show)
        return Score(density_at="image", **self.likelihoods.parts(items, conditions, None))

    def encode(self, target: Images, condition: Images) -> Encoded:
        """Return the noise that produces each target from its condition, and its likelihood. `decode` is the inverse.

        Raises:
            InputError: if an argument is not valid, or if an image requires more than one tile.
            NotFinite: if the log-likelihood of a target is not finite.
        """
        targets, conditions = self._pairs(target, condition)
        encoded = [encode_target(self.runner, *pair) for pair in zip(targets, conditions, strict=True)]
        for k, (_, item) in enumerate(encoded):
            check_finite(item, f"target[{k}]")
        return Encoded(
            noise=[[z[0] for z in noise] for noise, _ in encoded],
            density_at="image",
            **self.likelihoods.parts([item for _, item in encoded], conditions, None),
        )

    def decode(self, noise: Sequence[Sequence[NDArray[np.float32]]], condition: Images) -> Best:
        """Return the image that each noise produces from its condition.

        Arguments:
            noise: arrays of each image, as `encode` returns them in `Encoded.noise`.

        Raises:
            InputError: if an argument is not valid, or if the noise does not fit the condition.
            NotFinite: if an image is not finite.
        """
        conditions = as_images(condition, "condition", self.manifest.model.condition_channels)
        given: list[LevelNoises] = [[z[None] for z in of_image] for of_image in as_noise(noise, len(conditions))]
        items = [decode_noise(self.runner, *pair) for pair in zip(given, conditions, strict=True)]
        likelihood = self.likelihoods.parts(items, conditions, None)
        likelihood["image_typicality"] = likelihood["statistics"] = None  # only scored images have them
        return Best(
            images=stack([finite_pixels(replace(item, image=k)).integers() for k, item in enumerate(items)]),
            sample=np.zeros(len(items), np.int64),
            outcome=["unjudged"] * len(items),
            density_at="sample",
            **likelihood,
        )

    def close(self) -> None:
        """Free the graphs. The pipeline cannot be used after that."""
        self.runner.graphs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a pipeline cannot be copied or sent to another process: load the bundle there instead")

    def _condition(self, condition: Image) -> Image:
        return as_image(condition, "condition", self.manifest.model.condition_channels)

    def _pairs(self, target: Images, condition: Images) -> tuple[list[Image], list[Image]]:
        targets = as_images(target, "target")
        conditions = as_images(condition, "condition", self.manifest.model.condition_channels)
        check_pairs(targets, conditions, self.runner.model.scale)
        return targets, conditions
