"""Options of an export and of engines. They are known without PyTorch and TensorRT."""

from typing import Annotated, Literal

from msgspec import Meta

from caflow_runtime.batching.draw_options import Rank
from caflow_runtime.bundle.engine_sets import DEFAULT_PROFILE, Flavor, Profile
from caflow_runtime.bundle.manifest import PrecisionName
from caflow_runtime.errors import InputError
from caflow_runtime.option_fields import Options

INSTALL: dict[Flavor, str] = {
    "rtx": "pip install 'caflow-deploy[rtx]', which builds without a GPU, too",
    "tensorrt": "pip install 'caflow-deploy[trt]' in an environment without the extras cpu, rtx and export; it "
    "downloads from pypi.nvidia.com",
}
"""How to install each builder of engines. The extra trt has another ONNX Runtime than these extras."""
INSTALL_EITHER = f"{INSTALL['rtx']}; or, for the backend tensorrt, {INSTALL['tensorrt']}"


class ExportOptions(Options, frozen=True):
    """How a model is exported.

    Raises:
        InputError: if a value is not valid.
    """

    precision: PrecisionName = "fp32"
    """Precision of the networks inside the flow's layers; all other numbers stay float32. int8 requires `data`. The
    command's default is that of --trt, or fp32."""
    data: str | None = None
    """With `precision` int8: folder of photographs similar to the images that the model will process. The ranges of the
    8-bit numbers are learned from them."""
    temperature: Annotated[float, Meta(ge=0)] | None = None
    """Temperature that the model is best used with, for callers that set none. By default that of the bundle that is
    exported again, or 0.8."""
    rank: Rank | None = None
    """Criterion by which the model's best sample is chosen, for callers that set none. By default that of the bundle
    that is exported again, or likelihood."""
    force: bool = False
    """Replace an existing bundle."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.precision == "int8") != (self.data is not None):
            raise InputError("precision int8 requires data, and data requires precision int8: give both or neither")


class EngineOptions(Options, frozen=True):
    """For which GPUs engines are built, by which library, and for which sizes.

    Raises:
        InputError: if a value is not valid.
    """

    trt_flavor: Literal["tensorrt", "rtx"] | None = None
    """With --trt: library that builds the engines. tensorrt: TensorRT. rtx: TensorRT-RTX. By default rtx with
    `compute_capability`; otherwise the installed library, or tensorrt if both are installed."""
    compute_capability: tuple[str, ...] = ()
    """With --trt: build for GPUs with these compute capabilities, such as 8.6,12.0. This requires TensorRT-RTX; a GPU
    is not required. NVIDIA lists the capability of each GPU at https://developer.nvidia.com/cuda-gpus. By default that
    of the GPU of this machine."""
    max_batch_size: Annotated[int, Meta(ge=1)] | None = None
    """With --trt: largest number of items in one run of an engine. An item is a pair of an image and a sample. By
    default 4."""
    max_size: tuple[int, int] | None = None
    """With --trt: largest target of each item in a run, in pixels: WIDTHxHEIGHT, or one number for a square. Larger
    images are cut into tiles. Engines take memory for `max_batch_size` targets of this size. By default 512."""

    @property
    def given(self) -> list[str]:
        """The options that were given, as users type them."""
        names = ("trt_flavor", "compute_capability", "max_batch_size", "max_size")
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name)]

    @property
    def profile(self) -> Profile:
        """Largest number of items in one run, and their largest height and width."""
        sides = self.max_size or (DEFAULT_PROFILE.height, DEFAULT_PROFILE.width)
        return Profile(self.max_batch_size or DEFAULT_PROFILE.batch_size, *sides)

    @property
    def sizes_given(self) -> str:
        """--max-batch-size and --max-size as the user gave them, for a command that is to be run elsewhere."""
        items = f" --max-batch-size {self.max_batch_size}" if self.max_batch_size else ""
        return items + (f" --max-size {self.max_size[1]}x{self.max_size[0]}" if self.max_size else "")
