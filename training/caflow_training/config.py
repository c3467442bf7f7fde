"""Everything that defines a model but its weights, and how it is read from flat tables."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, field, fields
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Le
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from caflow_training.bijections import LOG_SCALE_BOUND
from caflow_training.conditional_flow import Dependencies
from caflow_training.dequantization import PixelSpace
from caflow_training.tasks import STRICT, TASKS, SuperResolution, Task

T = TypeVar("T")

# Far above what can be trained: a damaged file must not ask for a model whose construction never ends.
Levels = Annotated[int, Ge(1), Le(8)]
Steps = Annotated[int, Ge(1), Le(256)]
OptionalSteps = Annotated[int, Ge(0), Le(256)]
Width = Annotated[int, Ge(1), Le(4096)]
OptionalWidth = Annotated[int, Ge(0), Le(4096)]


class ConfigError(ValueError):
    """A recipe or a checkpoint's configuration has an unknown key or a value out of range."""


@dataclass(frozen=True, config=STRICT)
class CAFlowConfig:
    """Everything that defines a model but its weights. Stored in the checkpoint; an unknown key is an error."""

    levels: Levels = 3
    """n, levels of the image flows; the target's sides must be multiples of 2^(n+1)."""
    condition_steps: Steps = 4
    """K, flow steps per level of the condition flow."""
    target_steps: Steps = 4
    """K, flow steps per level of the target flow."""
    own_steps: Steps = 4
    """M, conditional flow steps in each g[j][j]."""
    cross_steps: Steps = 4
    """M, conditional flow steps in each g[i][j], j < i."""
    image_width: Width = 64
    """Channels inside the networks of the image flows."""
    conditional_width: Width = 32
    """Channels inside the networks of the conditional flow."""
    image_transition_steps: OptionalSteps = 2
    conditional_transition_steps: OptionalSteps = 2
    """The paper says 2; the public implementation has 1."""
    dependencies: Dependencies = "unshared"
    pixels: PixelSpace = "centred"
    residual: bool = False
    """The target is modelled as its difference to the prepared condition; needs centred pixels."""
    mean_blocks: OptionalSteps = 0
    """Residual blocks of the mean network; 0 is none. With one, the target is modelled as its residual to the network's
    prediction instead of the prepared condition; needs `residual`."""
    mean_width: Width = 64
    """Channels inside the mean network."""
    mean_features: OptionalWidth = 0
    """Channels of the mean network's features that the blocks of each level see beside D."""
    log_scale_bound: Annotated[float, Gt(0), Le(LOG_SCALE_BOUND)] = LOG_SCALE_BOUND
    """Largest |log-scale| of an affine layer; the paper's model has 2."""
    reference: bool = False
    """Of an imported checkpoint of the public implementation: its squeeze kernels and its way back from the logit
    scale, neither of which is quite invertible."""
    dequantization_steps: OptionalSteps | None = None
    """Steps of variational dequantization; None is uniform dequantization."""
    task: Task = field(default_factory=SuperResolution, metadata={"pydantic": Field(discriminator="task")})

    def __post_init__(self) -> None:
        if self.residual and self.pixels != "centred":
            raise ValueError(
                f"residual = true needs pixels = 'centred', got {self.pixels!r}: a residual has no place on the "
                "logit scale. Set one or the other."
            )
        if self.mean_blocks and not self.residual:
            raise ValueError("mean_blocks needs residual = true: the target is modelled as its residual to the mean.")
        if self.mean_features and not self.mean_blocks:
            raise ValueError("mean_features needs a mean network: set mean_blocks to 1 or more.")

    @property
    def size_multiple(self) -> int:
        """Target height and width must be multiples of this."""
        return max(int(2 ** (self.levels + 1)), self.task.scale)


def config_to_dict(config: CAFlowConfig) -> dict[str, Any]:
    """The configuration as flat plain values, the task's own among them."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {**values, **asdict(values.pop("task"))}


def config_from_dict(values: Mapping[str, Any]) -> CAFlowConfig:
    """The inverse of `config_to_dict`; keys that are left out take their defaults.

    Raises:
        ConfigError: for an unknown key or a value out of range.
    """
    task_type = task_type_of(values)
    task_names, model_names = field_names(task_type), field_names(CAFlowConfig) - {"task"}
    check_keys(values, task_names | model_names)
    task: Task = build(task_type, {key: values[key] for key in values if key in task_names})
    return build(CAFlowConfig, {"task": task, **{key: values[key] for key in values if key in model_names}})


def task_type_of(values: Mapping[str, Any]) -> type[Task]:
    """The task that the key `task` names."""
    name = values.get("task", "super-resolution")
    if not isinstance(name, str) or name not in TASKS:
        raise ConfigError(f"task = {name!r}: wanted one of {', '.join(TASKS)}")
    return TASKS[name]


def field_names(type_: type[Any]) -> set[str]:
    """The keys that a dataclass takes."""
    return {field.name for field in fields(type_)}


def check_keys(given: Iterable[str], known: set[str]) -> None:
    """Raise ConfigError for the first key that is not known, naming the nearest one that is."""
    for key in given:
        if key not in known:
            nearest = difflib.get_close_matches(str(key), sorted(known), n=1, cutoff=0.0)
            raise ConfigError(f"unknown key {key!r}; the nearest known one is {nearest[0]!r}")


def build(type_: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass from plain values.

    Raises:
        ConfigError: with one line per value that is wrong.
    """
    try:
        return type_(**values)
    except ValidationError as error:
        lines = []
        for detail in error.errors():
            place = ".".join(str(part) for part in detail["loc"]) or type_.__name__
            got = f", got {detail['input']!r}" if detail["loc"] else ""
            lines.append(f"{place}: {detail['msg'].removeprefix('Value error, ')}{got}")
        raise ConfigError("; ".join(lines)) from None
