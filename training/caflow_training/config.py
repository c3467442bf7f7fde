"""Configuration of a model, and functions that build configurations from the flat tables of recipes and checkpoints."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, field, fields
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Le
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from caflow_training.bijections import LOG_SCALE_BOUND
from caflow_training.conditional_flow import Dependencies
from caflow_training.dequantization import PixelSpace
from caflow_training.task_traits import STRICT
from caflow_training.tasks import TASKS, SuperResolution, Task

T = TypeVar("T")

# Upper limits far above any trainable model. They prevent a damaged file from requesting a model that is too large to
# construct.
Levels = Annotated[int, Ge(1), Le(8)]
Steps = Annotated[int, Ge(1), Le(256)]
OptionalSteps = Annotated[int, Ge(0), Le(256)]
Width = Annotated[int, Ge(1), Le(4096)]
OptionalWidth = Annotated[int, Ge(0), Le(4096)]


EXPECTED = {
    "bool_type": "expected true or false",
    "finite_number": "expected a finite number",
    "float_type": "expected a number",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected {ge} or more",
    "int_type": "expected an integer",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected {le} or less",
    "literal_error": "expected {expected}",
    "missing": "expected another value in the list",
    "string_type": "expected a string",
    "too_long": "expected a list of at most {max_length} values",
    "too_short": "expected a list of {min_length} or more values",
    "tuple_type": "expected a list",
}
"""Messages for Pydantic's types of errors, in the words of TOML. Others keep Pydantic's text."""


class ConfigError(ValueError):
    """Error for a recipe or configuration that cannot be read, or that has an unknown key or an invalid value."""


@dataclass(frozen=True, config=STRICT)
class CAFlowConfig:
    """Keys that define the model. They are stored in the checkpoint together with the weights.

    `D[j]` and `L[j]` are the latents of the condition and of the target at level j. `g[i][j]` is the block of the
    conditional flow that processes `L[i]` at level j ≤ i. A flow step of an image flow consists of an ActNorm, an
    invertible 1×1 convolution and an affine coupling. A conditional flow step also has an affine injector, before the
    coupling. A transition step consists of an ActNorm and an invertible 1×1 convolution.
    """

    levels: Levels = 3
    """Number of levels (scales) of the image flows. The width and height of targets must be multiples of
    2^(`levels` + 1) and of `scale`; the runtime pads images of other sizes."""
    condition_steps: Steps = 4
    """Number of flow steps in each level of the condition flow (K in the paper)."""
    target_steps: Steps = 4
    """Number of flow steps in each level of the target flow (K in the paper)."""
    own_steps: Steps = 4
    """Number of conditional flow steps in each own block `g[j][j]` (M in the paper)."""
    cross_steps: Steps = 4
    """Number of conditional flow steps in each cross block `g[i][j]`, j < i (M in the paper)."""
    image_width: Width = 64
    """Number of channels of the hidden layers in the networks of both image flows, and of variational
    dequantization."""
    conditional_width: Width = 32
    """Number of channels of the hidden layers in the networks of the conditional flow."""
    image_transition_steps: OptionalSteps = 2
    """Number of transition steps before the flow steps in each level of the image flows."""
    conditional_transition_steps: OptionalSteps = 2
    """Number of transition steps before the conditional flow steps in each block. The paper uses 2, the public
    implementation 1."""
    dependencies: Dependencies = "unshared"
    """Blocks of the conditional flow. `unshared`: each `g[i][j]` is a separate block, as in the paper. `shared`: one
    cross block at each level j serves all i > j (Appendix D of the paper). `dual-glow`: there are no cross blocks, so
    `L[i]` depends on `D[i]` only (equation 6 of the paper), and the model is smaller and faster."""
    pixels: PixelSpace = "centred"
    """Scale of the pixel values x, 0…256, inside the flows. `centred`: x/256 − ½. `logit`: logit(α/2 + (1 − α) x/256)
    with α = 1e-5 and logit(p) = ln(p / (1 − p))."""
    residual: bool = False
    """Whether the flow models the difference between the target and the prepared condition, instead of the target. The
    prepared condition is the condition at the target's size. Requires `pixels = "centred"`."""
    mean_blocks: OptionalSteps = 0
    """Number of residual blocks of the mean network, which predicts the target; 0 means no mean network. With a mean
    network, the flow models the difference between the target and the network's prediction. A value above 0 requires
    `residual = true`."""
    mean_depth: Annotated[int, Ge(0), Le(6)] = 0
    """How often the mean network halves the resolution. Above 0 it is a U-Net, which has a large receptive field, with
    `mean_blocks` residual blocks at each resolution on either side; with 0, all of its blocks are at the condition's
    resolution. A value above 0 requires a task whose conditions have the target's size."""
    mean_width: Width = 64
    """Number of channels of the mean network's hidden layers. Ignored without a mean network."""
    mean_features: OptionalWidth = 0
    """Number of channels of the features that the mean network passes to the blocks of each level, in addition to
    `D[j]`; 0 means none. A value above 0 requires `mean_blocks` of 1 or more."""
    degradation_aware: bool = False
    """Whether the mean network is told how the condition was degraded: by how much blur, noise and compression. An
    estimator, which is trained together with the model, derives this from the condition. `true` requires a mean
    network."""
    log_scale_bound: Annotated[float, Gt(0), Le(LOG_SCALE_BOUND)] = LOG_SCALE_BOUND
    """Upper bound of the absolute log-scale in an affine layer, which multiplies values by exp(log-scale). A smaller
    bound limits how much one layer can stretch values, which reduces outliers. The paper's model uses 2."""
    reference: bool = False
    """Whether to reproduce two operations of the public implementation: its squeeze kernels and its inverse of the
    logit scale. Neither is exactly invertible. The import of a checkpoint of that implementation sets this key; leave
    it `false` in recipes."""
    dequantization_steps: OptionalSteps | None = None
    """Number of flow steps of variational dequantization. An integer pixel value w stands for the interval from w to
    w + 1. With this key, a flow of this many steps learns where in the interval the value lies; the condition and the
    target each have one. Without it, dequantization is uniform: all positions are equally probable. 0, a flow without
    steps, is uniform as well, apart from a narrow margin at both ends of the interval."""
    task: Task = field(default_factory=SuperResolution, metadata={"pydantic": Field(discriminator="task")})
    """Kind of condition and target. Each task has its own keys, in the tables below. A key of another task is an
    error."""

    def __post_init__(self) -> None:
        if self.residual and self.pixels != "centred":
            raise ValueError(
                f"residual = true requires pixels = 'centred'; got {self.pixels!r}, a scale on which differences are "
                "not supported. Change one of the two keys."
            )
        if self.mean_blocks and not self.residual:
            raise ValueError(
                "mean_blocks above 0 requires residual = true, because the flow then models the difference between the "
                "target and the mean network's prediction."
            )
        if self.degradation_aware and not self.mean_blocks:
            raise ValueError("degradation_aware = true requires a mean network: set mean_blocks to 1 or more.")
        if self.mean_depth and (not self.mean_blocks or self.degradation_aware or self.task.scale > 1):
            raise ValueError(
                "mean_depth above 0 requires mean_blocks of 1 or more, degradation_aware = false, and a task without a "
                "change of size."
            )
        if self.task.condition_channels > 3 and not self.mean_depth:
            raise ValueError(
                f"task = {self.task.task!r} requires a mean network with a large receptive field: set mean_depth to 1 "
                "or more."
            )
        if self.task.condition_channels > 3 and self.dequantization_steps is not None:
            raise ValueError(
                f"task = {self.task.task!r} requires uniform dequantization, because the flow sees the positions of "
                "known values as noise: remove dequantization_steps."
            )
        if self.mean_depth and self.mean_features and self.mean_depth <= self.levels:
            raise ValueError(
                f"mean_depth must be 0 or above levels with mean_features, because the blocks of level 0 read features "
                f"at 1/{2 ** (self.levels + 1)} of the resolution; got {self.mean_depth}."
            )
        if self.mean_features and not self.mean_blocks:
            raise ValueError("mean_features above 0 requires a mean network: set mean_blocks to 1 or more.")

    @property
    def size_multiple(self) -> int:
        """Divisor of the target's width and height, in pixels. Other sizes must be padded."""
        return max(int(2 ** max(self.levels + 1, self.mean_depth)), self.task.scale)


def config_to_dict(config: CAFlowConfig) -> dict[str, Any]:
    """Return a configuration as a flat table of plain values, including the task's keys."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {**values, **asdict(values.pop("task"))}


def config_from_dict(values: Mapping[str, Any]) -> CAFlowConfig:
    """Return the configuration of a flat table, as `config_to_dict` makes it. Missing keys get their defaults.

    Raises:
        ConfigError: if a key is unknown or a value is invalid.
    """
    task_type = task_type_of(values)
    task_names, model_names = field_names(task_type), field_names(CAFlowConfig) - {"task"}
    check_keys(values, task_names | model_names)
    task: Task = build(task_type, {key: values[key] for key in values if key in task_names})
    return build(CAFlowConfig, {"task": task, **{key: values[key] for key in values if key in model_names}})


def task_type_of(values: Mapping[str, Any]) -> type[Task]:
    """Return the class of the task that the key `task` names.

    Raises:
        ConfigError: if there is no such task.
    """
    name = values.get("task", "super-resolution")
    if not isinstance(name, str) or name not in TASKS:
        raise ConfigError(f"task must be one of {', '.join(TASKS)}; got {name!r}")
    return TASKS[name]


def field_names(type_: type[Any]) -> set[str]:
    """Return the names of a dataclass's fields."""
    return {field.name for field in fields(type_)}


def check_keys(given: Iterable[str], known: set[str]) -> None:
    """Check that all keys are known.

    Raises:
        ConfigError: for the first unknown key; the message names a similar known key, or all known keys if none is
            similar.
    """
    for key in given:
        if key not in known:
            similar = difflib.get_close_matches(str(key), sorted(known), n=1)
            hint = (
                f"most similar known key is {similar[0]!r}" if similar else f"known keys are {', '.join(sorted(known))}"
            )
            raise ConfigError(f"unknown key {key!r}; the {hint}")


def build(type_: type[T], values: Mapping[str, Any]) -> T:
    """Return an instance of the dataclass `type_`, made from plain values. Lists become tuples.

    Raises:
        ConfigError: if a value is invalid; the message lists every invalid value.
    """
    try:
        return type_(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    except ValidationError as error:
        raise ConfigError("; ".join(map(_message, _causes(error)))) from None


def _causes(error: ValidationError) -> list[ErrorDetails]:
    """Return the errors of a validation. A list that is too short only because its values are invalid is omitted."""
    return [
        detail
        for detail in error.errors()
        if detail["type"] != "too_short" or len(detail["input"]) < detail["ctx"]["min_length"]
    ]


def _message(detail: ErrorDetails) -> str:
    """Return the message for a value, in the words of TOML; and for values that do not fit together, their message."""
    if not detail["loc"]:
        return str(detail["ctx"]["error"])  # only a `__post_init__` fails without a place
    place = ".".join(map(str, detail["loc"]))
    expected = EXPECTED.get(detail["type"], detail["msg"]).format_map(detail.get("ctx", {}))
    return f"{place}: {expected}; got {_in_toml(detail['input'])}"


def _in_toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(list(value) if isinstance(value, tuple) else value)
