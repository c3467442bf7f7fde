"""Recipes: flat TOML files that contain all settings of a training run.

The keys of a recipe are the fields of the model (`CAFlowConfig`), of its task, of the training (`TrainingConfig`) and
of the degradations of conditions (`Degradations`).
"""

import tomllib
from dataclasses import asdict, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.dataclasses import dataclass

from caflow_deploy.images.file_search import MAX_IMAGE_PIXELS
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
from caflow_training.task_traits import STRICT
from caflow_training.tasks import SuperResolution

Count = Annotated[int, Ge(1), Le(2**31)]
Number = Annotated[int, Ge(1), Le(65536)]
"""Number of items that are in memory at the same time."""
Positive = Annotated[float, Gt(0)]
Share = Annotated[float, Gt(0), Lt(1)]
Scale = Annotated[float, Gt(0.01), Le(8)]
Weight = Annotated[float, Ge(0)]
SHIFTS = 16
"""Number of different shifts in each direction before the perceptual distance. It is the product of the strides of the
first four pooling layers of VGG16."""
SMALLEST_FEATURE_CROP = 16
"""Smallest crop of the perceptual distance, in pixels: VGG16 halves it four times."""


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """Keys that define the training. In the formulas, W is the target and Y is the condition.

    The loss is a weighted sum of up to seven terms. Their weights are `likelihood_weight`, `mean_weight`,
    `degradation_weight`, `still_weight`, `feature_weight`, `lattice_weight` and `adversarial_weight`. A term with
    weight 0 is not computed, except that of the estimator.
    The last four terms require samples, which are drawn in each step.

    A dimension is one of the 3 · `crop` · `crop` values of a target crop.
    """

    steps: Count = 200_000
    """Number of training steps."""
    batch: Number = 16
    """Crops per step, summed over all processes. Must be a multiple of the number of processes."""
    crop: Annotated[int, Ge(1), Le(4096)] = 64
    """Side of the square target crops, in pixels. Must be a multiple of 2^(`levels` + 1) and of `scale`."""
    crop_scales: Annotated[tuple[Scale, ...], MinLen(1)] = (1.0,)
    """Factors by which photographs are resized before they are cropped: 0.5 halves the width and height. One factor is
    drawn at random for each crop. Factors that make the photograph smaller than the crop are ignored; if no factor
    remains, the photograph is not resized."""
    crop_candidates: Number = 1
    """Number of random positions that are compared for each crop. The position whose pixel values have the largest
    standard deviation is used, because much of a typical photograph is sky, wall or water."""
    flips: bool = True
    """Whether crops are mirrored left to right, each with probability ½. Choose `false` if left and right differ, as in
    pictures of text."""
    max_pixels: Count = MAX_IMAGE_PIXELS
    """Largest number of pixels of a photograph. Larger photographs are skipped before they are decoded. Decoding takes
    at least 3 bytes of memory per pixel. Above 2³⁰, raise OpenCV's own limit as well, with the environment variable
    OPENCV_IO_MAX_IMAGE_PIXELS."""
    likelihood_weight: Weight = 1.0
    """Weight of the negative log-likelihood −log p(W | Y) − λ log p(Y), in nats per dimension of the target (equation 9
    of the paper). λ is `condition_weight`."""
    condition_weight: Weight = 1e-3
    """Weight λ of the condition's own log-likelihood in the negative log-likelihood: 0 trains p(W | Y) alone, 1 trains
    the joint density."""
    mean_weight: Weight = 0.0
    """Weight of the error of the mean network's prediction, for pixel values scaled to 0…1. If those of samples and of
    the likelihood are 0, the flows are not trained."""
    mean_error: Literal["absolute", "squared"] = "absolute"
    """Error that `mean_weight` weights. With `absolute` the network learns the median of what is possible, with
    `squared` the mean: a careful guess where much is possible, as for colours."""
    degradation_weight: Weight = 0.0
    """Weight of the mean square error of the estimated degradation, for models with `degradation_aware`. With 0, the
    estimator is not trained. If the other weights are 0, it alone is trained."""
    known_share: Annotated[float, Ge(0), Le(1)] = 0.5
    """Probability with which the model is told the true blur of a crop instead of the estimated one; likewise its
    noise, its compression and so on. So a model learns to use what a user or a file knows, and learns the errors of its
    estimator. Ignored without `degradation_aware`."""
    still_weight: Weight = 0.0
    """Weight of the L1 distance between the sample at temperature 0 and the target, for pixel values scaled to 0…1
    (after HCFlow+, arXiv:2108.05301, and LINF, arXiv:2303.05156)."""
    feature_weight: Weight = 0.0
    """Weight of the perceptual distance LPIPS-VGG between the compared image and the target."""
    lattice_weight: Weight = 0.0
    """Weight of the pattern that repeats every 4 pixels in the difference between the compared image and the target.
    This term suppresses the visible grid that training with LPIPS-VGG alone produces."""
    adversarial_weight: Weight = 0.0
    """Weight of the adversarial loss of the compared image. A discriminator is trained in the same steps to tell such
    images from targets; it is stored in the checkpoint, and not exported. A light weight, such as a tenth of
    `feature_weight`, makes textures crisper. With a heavy one, samples at high temperatures have too much texture."""
    adversarial_start: Annotated[int, Ge(0)] = 0
    """Step from which the adversarial loss acts on the model. The discriminator is trained from the first step."""
    adversarial_ramp: Annotated[int, Ge(0)] = 0
    """Number of steps from `adversarial_start` in which the weight of the adversarial loss rises linearly to
    `adversarial_weight`."""
    compared: Literal["sample", "mean"] = "sample"
    """Image that `feature_weight`, `lattice_weight` and `adversarial_weight` compare with the target: a sample at
    `feature_temperature`, or the mean network's prediction."""
    feature_side: Annotated[int, Ge(0), Le(4096)] = 0
    """Side of the part of each crop that the perceptual distance sees, in pixels; 0 means the whole crop. The distance
    takes most of the time of a step, so a part makes steps faster. Its position is drawn at random. It must be at least
    16, and at most `crop` − 15, so that there are as many positions as VGG16's pooling layers distinguish."""
    feature_temperature: Weight = 0.9
    """Temperature of the samples that are compared."""
    lowest_feature_temperature: Weight | None = None
    """Lowest temperature of the samples that are compared. The temperature of each crop is drawn uniformly between this
    value and `feature_temperature`. By default, all have `feature_temperature`. 0 improves
    results at temperature 0 as well."""
    coarsest_by_likelihood: bool = False
    """Whether the likelihood alone trains the coarsest level of the flow and the condition's flow. Terms that compare
    samples with targets prefer samples that are right on average, so with them, the colours of large blocks vary too
    little between samples. All else is trained by every term."""
    latent_noise: Weight = 0.0
    """Largest standard deviation of the normal noise that is added to `L[j]` where cross blocks read it as a condition.
    The standard deviation is drawn uniformly between 0 and this value for each crop (after JetFormer,
    arXiv:2411.19722). 0 adds no noise."""
    learning_rate: Positive = 1e-3
    """Learning rate of Adam at the end of the warm-up. Afterwards the rate decays."""
    warm_up_steps: Annotated[int, Ge(0)] = 500
    """Number of first steps in which the learning rate rises linearly to `learning_rate`. 0 means no warm-up."""
    epoch_steps: Count = 1000
    """Steps per epoch. After each epoch the model is validated, and the learning rate is multiplied by
    `decay_per_epoch`. The model is also validated after the last step."""
    decay_per_epoch: Annotated[float, Gt(0), Le(1)] = 0.999
    """Factor by which the learning rate is multiplied after each epoch."""
    level_off_step: Annotated[int, Ge(0)] = 70_000
    """Step from which the learning rate is also multiplied by `level_off_factor`."""
    level_off_factor: Annotated[float, Gt(0), Le(1)] = 0.1
    """Factor on the learning rate from `level_off_step` to the end."""
    ema_decay: Annotated[float, Ge(0), Lt(1)] = 0.999
    """Decay per step of the exponential moving average of the weights. The averaged weights are validated and exported;
    with 0 they are the current weights. At step t, counted from 0, a decay above (1 + t)/(10 + t) is reduced to this
    value, so that the average soon forgets the initial weights."""
    gradient_clip: Positive = 1.0
    """Largest L2 norm of the gradient. Larger gradients are scaled down to this norm."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number type inside the networks of the affine layers, the mean network and the perceptual distance: `fp32` is
    float32, `bf16` is bfloat16. All other computations use float32."""
    compile: bool = False
    """Whether to compile the model and its loss with `torch.compile`."""
    checkpoint_steps: Count = 500
    """Steps between two checkpoints. A stopped run loses at most the steps since its last checkpoint."""
    validation_share: Share = 0.1
    """Fraction of the photographs that is held out for validation. At least one photograph is held out, and at least
    one is kept for training. They are chosen by a hash of their file names, so the choice is the same in every run with
    the same photographs."""
    validation_crops: Number = 64
    """Number of crops of held-out photographs in each validation."""
    sheet_temperatures: tuple[Annotated[float, Ge(0)], ...] = (0.0, 0.8, 1.0)
    """Temperatures of the samples on the sample sheets, one column for each. Every validation writes a sheet."""
    seed: Annotated[int, Ge(0), Lt(2**63)] = 0
    """Seed of all random numbers: initial weights, crops, degradations, noise and sample sheets."""

    @property
    def trains_flow(self) -> bool:
        """Whether the flows are trained. If not, only the mean network or the estimator is."""
        return self.likelihood_weight > 0 or self.trains_samples

    @property
    def trains_samples(self) -> bool:
        """Whether the loss has a term that requires samples."""
        return self.still_weight > 0 or (self.compares and self.compared == "sample")

    @property
    def trains_mean(self) -> bool:
        """Whether a term of the loss is about the mean network's prediction itself."""
        return self.mean_weight > 0 or (self.compares and self.compared == "mean")

    @property
    def compares(self) -> bool:
        """Whether the loss compares an image with the target by features, by their lattice or by a discriminator."""
        return self.feature_weight > 0 or self.lattice_weight > 0 or self.adversarial_weight > 0


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """Settings of a training run: the model with its task, the training, and the degradations of the conditions."""

    model: CAFlowConfig
    training: TrainingConfig
    degradations: Degradations = field(default_factory=Degradations)

    def __post_init__(self) -> None:
        if self.training.mean_weight and not self.model.mean_blocks:
            raise ValueError("mean_weight above 0 requires a mean network: set mean_blocks to 1 or more.")
        if self.training.degradation_weight and not self.model.degradation_aware:
            raise ValueError("degradation_weight above 0 requires degradation_aware = true.")
        if self.training.compared == "mean" and not self.model.mean_blocks:
            raise ValueError("compared = 'mean' requires a mean network: set mean_blocks to 1 or more.")
        weights = (self.training.trains_flow, self.training.trains_mean, self.training.degradation_weight)
        if not any(weights):
            raise ValueError(
                "all weights of the loss are 0: set likelihood_weight, mean_weight or degradation_weight above 0."
            )
        lowest = self.training.lowest_feature_temperature
        if lowest is not None and lowest > self.training.feature_temperature:
            raise ValueError(
                f"lowest_feature_temperature must be at most {self.training.feature_temperature:g}, which is "
                f"feature_temperature; got {lowest:g}."
            )
        if self.model.task.is_paired and self.model.task.scale > 1 and self.training.crop_scales != (1.0,):
            raise ValueError(
                "crop_scales must be [1.0] with pairs = true, because pairs are not resized: remove the key."
            )
        if self.model.task.is_paired and self.degradations != Degradations():
            raise ValueError(
                "the conditions of pairs are files, and are not degraded: remove clean_share and the other keys of "
                "degraded inputs."
            )
        if (
            self.model.task.is_paired
            and self.model.degradation_aware
            and (self.training.degradation_weight or self.training.known_share)
        ):
            raise ValueError(
                "the degradation of pairs is not known, so it can neither be learned nor told: set degradation_weight "
                "and known_share to 0; the estimator of the --start checkpoint is then used as it is."
            )
        if self.degradations != Degradations() and not isinstance(self.model.task, SuperResolution):
            raise ValueError(
                f"degradations require task = 'super-resolution'; got {self.model.task.task!r}. Remove clean_share and "
                "the other keys of degraded inputs."
            )
        multiple = self.model.size_multiple
        if self.training.crop % multiple:
            raise ValueError(
                f"crop must be a multiple of {multiple} for levels = {self.model.levels} and "
                f"scale = {self.model.task.scale}; got {self.training.crop}"
            )
        if self.training.feature_weight and self.training.crop < SMALLEST_FEATURE_CROP:
            raise ValueError(
                f"feature_weight above 0 requires crop of {SMALLEST_FEATURE_CROP} or more, because VGG16 halves a crop "
                f"four times; got {self.training.crop}."
            )
        side, largest_side = self.training.feature_side, self.training.crop - SHIFTS + 1
        if side and not SMALLEST_FEATURE_CROP <= side <= largest_side:
            raise ValueError(
                f"feature_side must be 0, or from {SMALLEST_FEATURE_CROP} to {largest_side}, which is crop − "
                f"{SHIFTS - 1}; got {side}."
            )
        largest = max(self.training.crop_scales)
        if round(self.training.crop / largest) < 1:
            raise ValueError(
                f"crop_scales contains {largest:g}, which enlarges less than one pixel of a photograph to a crop of "
                f"{self.training.crop} pixels. Remove it, or set a larger crop."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as a flat table of plain values, including defaults."""
        return config_to_dict(self.model) | asdict(self.training) | asdict(self.degradations)


def recipe_from_dict(values: dict[str, Any]) -> Recipe:
    """Return the recipe of a flat table of plain values.

    Raises:
        ConfigError: if a key is unknown, a value is invalid, or values do not fit together.
    """
    model_names = field_names(CAFlowConfig) | field_names(task_type_of(values))
    parts: dict[str, tuple[type[Any], set[str]]] = {
        "training": (TrainingConfig, field_names(TrainingConfig)),
        "degradations": (Degradations, field_names(Degradations)),
    }
    check_keys(values, model_names.union(*(names for _, names in parts.values())))
    built = {
        part: build(type_, {key: values[key] for key in values if key in names})
        for part, (type_, names) in parts.items()
    }
    model = config_from_dict({key: values[key] for key in values if key in model_names})
    return build(Recipe, {"model": model, **built})


def load_recipe(name: str) -> Recipe:
    """Return the recipe in the file `name`, or the built-in recipe with that name.

    Raises:
        ConfigError: if neither exists, or if the contents are invalid.
    """
    builtin = resources.files("caflow_training") / "recipes" / f"{name}.toml"
    path = Path(name)
    try:
        is_there = path.is_file() or builtin.is_file()
    except OSError:  # the name is too long for a file
        is_there = False
    if not is_there:
        raise ConfigError(
            f"{name} is neither a recipe file nor a built-in recipe; the built-in recipes are "
            f"{', '.join(builtin_recipes())}"
        )
    try:
        # Some editors on Windows begin a file with a byte order mark, which "utf-8-sig" skips.
        text = (path if path.is_file() else builtin).read_text(encoding="utf-8-sig")
        values = tomllib.loads(text)
    except ValueError as error:  # invalid TOML, text that is not UTF-8, or integers with thousands of digits
        raise ConfigError(f"{name} is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{name} is not a recipe: its values are nested too deeply") from None
    try:
        return recipe_from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def builtin_recipes() -> list[str]:
    """Return the names of the recipes that are part of the package, sorted."""
    folder = resources.files("caflow_training") / "recipes"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))
