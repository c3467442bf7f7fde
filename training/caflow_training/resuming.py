"""Checks before a training run is resumed from its checkpoint."""

import json
from pathlib import Path
from typing import Any

from caflow_training import checkpoint
from caflow_training.adversarial import Discriminator
from caflow_training.config import ConfigError
from caflow_training.recipe import Recipe, recipe_from_dict

MAY_CHANGE = {"steps", "checkpoint_steps", "max_pixels"}
"""Keys of a recipe that may differ when a run is resumed. With the same photographs, they do not affect the result of a
step."""

ADVERSARY = "adversary"
"""Key in a checkpoint's `training` table: the discriminator of a run with adversarial training, and its optimizer."""


class ResumeError(ValueError):
    """Error for an output folder with a checkpoint that this run cannot be resumed from."""


def read_resumable(path: Path, recipe: Recipe, digest: int) -> dict[str, Any]:
    """Read the contents of a checkpoint, and check that a run can be resumed from it.

    Arguments:
        digest: hash of the run's photographs.

    Returns: the contents, as `checkpoint.read` does. The tables `weights` and `ema` fit the model. The table `training`
        contains at least the recipe, the state of the optimizer and the step; with adversarial training also the
        discriminator, whose weights fit, and the state of its optimizer.

    Raises:
        ResumeError: if the checkpoint has no state of training, or another recipe, or other photographs.
        CheckpointError: if the weights do not fit the model, or the discriminator is missing or does not fit.
    """
    contents = checkpoint.read(path)
    training = contents.get("training") or {}
    kinds = {"recipe": dict, "optimizer": dict, "step": int}
    if contents["ema"] is None or any(not isinstance(training.get(key), kind) for key, kind in kinds.items()):
        raise ResumeError(
            f"{path} contains a model, but not the state of its training: to start a new run from this model, use "
            "--start with this file, and another --out"
        )
    stored, wanted = _stored_recipe(path, training["recipe"]), plain(recipe)
    different = [key for key in wanted if stored.get(key) != wanted[key] and key not in MAY_CHANGE]
    if different:
        key = different[0]
        raise ResumeError(
            f"{path} was trained with {key} = {stored.get(key)!r}, but the recipe has {key} = {wanted[key]!r}: "
            f"use the same recipe to resume, or {_new_run(path)}"
        )
    if training.get("photographs", digest) != digest:
        raise ResumeError(
            f"{path} was trained on photographs that differ from those in --data: use the same folder to resume, or "
            + _new_run(path)
        )
    if not 0 <= training["step"] <= checkpoint.MAX_STEP:
        raise checkpoint.CheckpointError(
            f"{path} is damaged: its step must be from 0 to {checkpoint.MAX_STEP}; got {training['step']}; restore the "
            "file from a copy"
        )
    for weights in (contents["weights"], contents["ema"]):
        checkpoint.check_weights(path, recipe.model, weights)
    if recipe.training.adversarial_weight:
        _check_adversary(path, training.get(ADVERSARY))
    return contents


def _check_adversary(path: Path, state: Any) -> None:
    """Check the stored discriminator.

    Raises:
        CheckpointError
    """
    if not isinstance(state, dict) or not all(isinstance(state.get(key), dict) for key in ("weights", "optimizer")):
        raise checkpoint.CheckpointError(
            f"{path} is damaged: the discriminator is missing or is no table; restore the file from a copy"
        )
    checkpoint.check_weights_of(path, Discriminator(), state["weights"])


def next_run(out: Path) -> str:
    """Return what an output folder keeps of a stopped run, and where the same command begins."""
    path = out / checkpoint.LAST_CHECKPOINT
    try:
        step = (checkpoint.read(path).get("training") or {})["step"]
    except (checkpoint.CheckpointError, LookupError):
        return "no checkpoint was written, so the same command starts at the beginning"
    return f"the checkpoint of step {step} is kept, and the same command resumes from there"


def _stored_recipe(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe in the checkpoint at `path` as `plain` does.

    Raises:
        ResumeError: if the recipe is not valid in this version.
    """
    try:
        return plain(recipe_from_dict(values))
    except ConfigError as error:
        raise ResumeError(
            f"{path} was written by another version of caflow-train, and its recipe is not valid in this version: "
            f"{error}; use {_new_run(path)}"
        ) from None


def _new_run(path: Path) -> str:
    return f"another --out to start a new run, and --start {path} to begin it with these weights"


def plain(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as plain JSON values, so that stored recipes and new ones can be compared with ==."""
    values: dict[str, Any] = json.loads(json.dumps(recipe.to_dict()))
    return values
