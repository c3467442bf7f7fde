"""Recipes: flat TOML files that say everything about a training run.

A recipe's keys are those of the model (`CAFlowConfig`), of its task, of the training (`TrainingConfig`), and of the
degradations of its conditions (`Degradations`).
"""

import tomllib
from dataclasses import asdict, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.dataclasses import dataclass

from caflow_runtime.image_formats import MAX_PIXELS
from caflow_training.config import (
    CAFlowConfig,
    ConfigError,
    build,
    check_keys,
    config_from_dict,
    config_to_dict,
    field_names,
    task_type_of,
)
from caflow_training.degradations import Degradations
from caflow_training.tasks import STRICT, SuperResolution

Count = Annotated[int, Ge(1), Le(2**31)]
Number = Annotated[int, Ge(1), Le(65536)]
"""Of what is held in memory at once."""
Positive = Annotated[float, Gt(0)]
Share = Annotated[float, Gt(0), Lt(1)]
Scale = Annotated[float, Gt(0.01), Le(8)]
Weight = Annotated[float, Ge(0)]


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """How a model is trained."""

    steps: Count = 200_000
    batch: Number = 16
    """Crops per step, over all processes together."""
    crop: Annotated[int, Ge(1), Le(4096)] = 64
    """Side of the square target, in pixels."""
    crop_scales: Annotated[tuple[Scale, ...], MinLen(1)] = (1.0,)
    """A crop is taken at one of these sizes of the photograph: 0.5 halves the photograph first."""
    crop_candidates: Number = 1
    """Of so many places the one whose pixels vary most is taken: photographs are mostly sky, wall and water."""
    max_pixels: Count = MAX_PIXELS
    """Photographs with more pixels than this are skipped before they are decoded. Decoding takes at least 3 bytes of
    memory per pixel. Beyond 2³⁰, OpenCV's own limit has to be raised as well: set OPENCV_IO_MAX_IMAGE_PIXELS."""
    likelihood_weight: Weight = 1.0
    """Of −log p(W | Y) in nats per dimension (eq. 9)."""
    condition_weight: Weight = 1e-3
    """λ of eq. 9: 0 trains p(W | Y), 1 the joint density."""
    mean_weight: Weight = 0.0
    """Of the mean network's L1 distance to the target, pixel values as 0…1. Alone it trains that network alone."""
    still_weight: Weight = 0.0
    """Of the L1 distance between the sample at τ = 0 and the target, pixel values as 0…1 (HCFlow+, LINF)."""
    feature_weight: Weight = 0.0
    """Of LPIPS-VGG between a sample at `feature_temperature` and the target."""
    lattice_weight: Weight = 0.0
    """Of what repeats every 4 pixels in the difference of that sample and the target: LPIPS-VGG alone makes a grid."""
    feature_temperature: Weight = 0.9
    latent_noise: Weight = 0.0
    """Noise on L[j] where finer flows see it as a condition; its standard deviation is uniform between 0 and this
    (JetFormer, arXiv:2411.19722)."""
    learning_rate: Positive = 1e-3
    warm_up_steps: Annotated[int, Ge(0)] = 500
    """Steps in which the learning rate rises linearly from 0."""
    epoch_steps: Count = 1000
    """Steps between two validations; the learning rate decays once per epoch."""
    decay_per_epoch: Annotated[float, Gt(0), Le(1)] = 0.999
    level_off_step: Annotated[int, Ge(0)] = 70_000
    """From this step on the learning rate is multiplied by `level_off_factor`."""
    level_off_factor: Annotated[float, Gt(0), Le(1)] = 0.1
    ema_decay: Annotated[float, Ge(0), Lt(1)] = 0.999
    gradient_clip: Positive = 1.0
    """Largest L2 norm of the gradient of the loss in nats per dimension."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the networks inside the affine layers; all else is float32."""
    compile: bool = False
    checkpoint_steps: Count = 500
    validation_share: Share = 0.1
    """Of the photographs, at least one; chosen by name, so that it stays the same."""
    validation_crops: Number = 64
    sheet_temperatures: tuple[Annotated[float, Ge(0)], ...] = (0.0, 0.8, 1.0)
    seed: Annotated[int, Ge(0), Lt(2**63)] = 0

    @property
    def trains_flow(self) -> bool:
        """Whether the flows learn, and not the mean network alone."""
        return self.likelihood_weight > 0 or self.trains_samples

    @property
    def trains_samples(self) -> bool:
        """Whether the loss contains terms of samples."""
        return self.still_weight > 0 or self.feature_weight > 0 or self.lattice_weight > 0


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """A model, its training, and what happened to the conditions that it is trained on."""

    model: CAFlowConfig
    training: TrainingConfig
    degradations: Degradations = field(default_factory=Degradations)

    def __post_init__(self) -> None:
        if self.training.mean_weight and not self.model.mean_blocks:
            raise ValueError("mean_weight > 0 trains a mean network, and the model has none: set mean_blocks.")
        if not self.training.trains_flow and not self.training.mean_weight:
            raise ValueError("all weights of the loss are 0: set likelihood_weight or mean_weight.")
        if self.degradations != Degradations() and not isinstance(self.model.task, SuperResolution):
            raise ValueError(
                f"degradations are of conditions of super-resolution, and the task is {self.model.task.task}: remove "
                "clean_share and what belongs to it."
            )
        multiple = self.model.size_multiple
        if self.training.crop % multiple:
            raise ValueError(
                f"crop = {self.training.crop}: with levels = {self.model.levels} wanted a multiple of {multiple}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The recipe as flat plain values, defaults included."""
        return config_to_dict(self.model) | asdict(self.training) | asdict(self.degradations)


def recipe_from_dict(values: dict[str, Any]) -> Recipe:
    """A recipe from flat plain values.

    Raises:
        ConfigError: for an unknown key, naming the nearest known one, or a value out of range.
    """
    model_names = field_names(CAFlowConfig) | field_names(task_type_of(values))
    parts: dict[str, tuple[type[Any], set[str]]] = {
        "training": (TrainingConfig, field_names(TrainingConfig)),
        "degradations": (Degradations, field_names(Degradations)),
    }
    check_keys(values, model_names.union(*(names for _, names in parts.values())))
    built = {
        part: build(type_, {key: _as_tuple(values[key]) for key in values if key in names})
        for part, (type_, names) in parts.items()
    }
    model = config_from_dict({key: values[key] for key in values if key in model_names})
    return build(Recipe, {"model": model, **built})


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def load_recipe(name: str) -> Recipe:
    """The recipe in the file `name`, or the built-in one of that name.

    Raises:
        ConfigError: if there is neither, or its contents are wrong.
    """
    builtin = resources.files("caflow_training") / "recipes" / f"{name}.toml"
    path = Path(name)
    try:
        is_there = path.is_file() or builtin.is_file()
    except OSError:  # a name that is too long for any file
        is_there = False
    if not is_there:
        raise ConfigError(f"{name}: wanted a recipe file or one of {', '.join(builtin_recipes())}")
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else builtin.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except ValueError as error:  # also of text that is not UTF-8, and of integers of thousands of digits
        raise ConfigError(f"{name}: not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{name}: not a recipe: its values are nested too deeply") from None
    try:
        return recipe_from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def builtin_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("caflow_training") / "recipes"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))
