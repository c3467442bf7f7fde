"""Checkpoints and recipes: round trips, and errors for damaged or wrong files."""

import os
import pickle
import resource
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from small_models import small_model

from caflow_training import checkpoint
from caflow_training.checkpoint import LAST_CHECKPOINT, CheckpointError
from caflow_training.config import ConfigError
from caflow_training.recipe import builtin_recipes, load_recipe, recipe_from_dict
from caflow_training.tasks import Colorization, ImageToImage, Inpainting, Sketch, SuperResolution, Task

TASKS: list[Task] = [
    SuperResolution(scale=8, up_filter="nearest"),
    Colorization(),
    Inpainting(mask_area=0.3),
    Sketch(low_threshold=50.0),
    ImageToImage(),
]
AWARE: dict[str, object] = {"residual": True, "mean_blocks": 1, "degradation_aware": True}
"""Keys of a model that is told how its input was degraded."""


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.task)
def test_a_saved_and_loaded_model_is_the_same(tmp_path: Path, task: Task) -> None:
    model = small_model(torch.float32, task=task, dependencies="shared", dequantization_steps=1)
    checkpoint.save(tmp_path / "model.pt", model)
    again = checkpoint.load(tmp_path / "model.pt")
    assert again.config == model.config
    assert not again.training
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_averaged_weights_are_preferred(tmp_path: Path) -> None:
    model = small_model(torch.float32)
    average = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    checkpoint.save(tmp_path / "model.pt", model, ema=average)
    assert all(torch.equal(t, average[name]) for name, t in checkpoint.load(tmp_path / "model.pt").state_dict().items())


def test_weights_that_fit_into_fp16_take_half_the_space(tmp_path: Path) -> None:
    model = small_model(torch.float32)
    checkpoint.save(tmp_path / "wide.pt", model)
    rounded = {name: tensor.half().float() for name, tensor in model.state_dict().items()}
    model.load_state_dict(rounded)
    checkpoint.save(tmp_path / "narrow.pt", model)
    again = checkpoint.load(tmp_path / "narrow.pt").state_dict()
    assert all(again[name].dtype == torch.float32 and torch.equal(again[name], rounded[name]) for name in rounded)
    values = sum(tensor.numel() for tensor in rounded.values())
    sizes = [(tmp_path / name).stat().st_size for name in ("wide.pt", "narrow.pt")]
    assert sizes[0] - sizes[1] > 1.8 * values


class _Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


def test_no_pickled_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": _Malicious()}, tmp_path / "bad.pt")
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(_Malicious(), protocol=2))
    for name in ("bad.pt", "bad.pkl"):
        with pytest.raises(CheckpointError, match="is not a checkpoint"):
            checkpoint.load(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_that_cannot_be_written_is_an_oserror(tmp_path: Path) -> None:
    """`torch.save` to a file would raise a RuntimeError that does not give the reason."""
    path = tmp_path / "model.pt"
    path.write_bytes(b"the last good one")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*model\.pt'"):
            checkpoint.save(path, small_model(torch.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"the last good one"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(CheckpointError, match="no such file"):
        checkpoint.load(path)
    checkpoint.save(path, small_model(torch.float32))
    whole = path.read_bytes()
    for text in (whole[: len(whole) // 2], b"", b"# A page\n", b"(", b"]a", b"G"):
        path.write_bytes(text)
        with pytest.raises(CheckpointError, match="is not a checkpoint"):
            checkpoint.load(path)
    torch.save({"some": "file"}, path)
    with pytest.raises(CheckpointError, match="expected a CAFLOW checkpoint"):
        checkpoint.load(path)
    torch.save({"format": "caflow-checkpoint", "version": 99}, path)
    with pytest.raises(CheckpointError, match="expected checkpoint version 1; got 99"):
        checkpoint.load(path)
    path.rename(tmp_path / LAST_CHECKPOINT)
    with pytest.raises(CheckpointError, match=LAST_CHECKPOINT):
        checkpoint.load(tmp_path)


def change_first(change: Callable[[torch.Tensor], object]) -> Callable[[Any], object]:
    """Return a function that changes the first weight of a checkpoint."""
    return lambda contents: contents["weights"].update({k: change(w) for k, w in [*contents["weights"].items()][:1]})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda contents: contents.pop("weights"), "the entry 'weights' is missing"),
        (lambda contents: contents.update(version=torch.zeros(2)), "expected checkpoint version 1; got tensor"),
        (change_first(lambda weight: weight.float().to_sparse()), "got none"),
        (lambda contents: contents.update(ema=3), "the entry 'ema' is missing"),
        (lambda contents: contents.update(config=["levels"]), "the entry 'config' is missing or is no table"),
        (lambda contents: contents["config"].update(levels=2**40), "levels: expected 8 or less"),
        (lambda contents: contents["config"].update(task=["a"]), r"task must be one of .*; got \['a'\]"),
        (lambda contents: contents["config"].update(image_width=4096), "by its configuration; got"),
        (lambda contents: contents["weights"].popitem(), "by its configuration; got none"),
        (change_first(lambda _: "text"), "got none"),
        (change_first(lambda weight: weight.float().sum()), r"got \(\);"),
        (lambda contents: contents["weights"].update(more=torch.zeros(1)), "weight 'more'"),
    ],
)
def test_damaged_contents_are_named(damage: Callable[[Any], object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    checkpoint.save(path, small_model(torch.float32))
    contents = checkpoint.read(path)
    damage(contents)
    torch.save(contents, path)
    with pytest.raises((CheckpointError, ConfigError), match=message) as refusal:
        checkpoint.load(path)
    assert str(path) in str(refusal.value)


def test_a_damaged_or_unpublished_reference_checkpoint_is_refused(tmp_path: Path) -> None:
    whole = checkpoint.read(Path(__file__).parents[1] / "data/reference/unshared/lightning.ckpt")
    path = tmp_path / "lightning.ckpt"
    names, options = list(whole["state_dict"]), whole["hyper_parameters"]["opts"]
    other = Namespace(**vars(options) | {"nn_type": "nnflowpp"})
    damages: list[tuple[dict[str, Any], str]] = [
        ({"hyper_parameters": {}}, ""),
        ({"hyper_parameters": {"opts": other}}, "option nn_type .* must be 'SimpleConvNet'; got 'nnflowpp'"),
        ({"state_dict": {**whole["state_dict"], names[0]: "text"}}, ""),
        ({"state_dict": {name: whole["state_dict"][name] for name in names[: len(names) // 2]}}, ""),
        ({"state_dict": {**whole["state_dict"], names[0].replace(".layers", "9999999999.layers"): torch.zeros(1)}}, ""),
    ]
    for damage, message in damages:
        torch.save(whole | damage, path)
        with pytest.raises(CheckpointError, match=rf"lightning.ckpt: .*{message}"):
            checkpoint.load(path)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"levels = 2\xff", "not valid TOML"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "nested too deeply|not valid TOML"),
        (b"learning_rate = inf", "learning_rate"),
        (b"seed = 9223372036854775808", "seed"),
        (b"steps = " + b"1" * 5000, "not valid TOML"),
    ],
)
def test_files_that_are_no_recipes_are_refused(contents: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(contents)
    with pytest.raises(ConfigError, match=message):
        load_recipe(str(path))
    for name in ("tyni", "a" * 300):
        with pytest.raises(ConfigError, match=r"is neither a recipe file .* the built-in recipes are colorization, "):
            load_recipe(name)


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("levels = 2\n", encoding="utf-8-sig")
    assert load_recipe(str(path)).model.levels == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"levls": 3}, "unknown key 'levls'; the most similar known key is 'levels'"),
        ({"zzz": 3}, "unknown key 'zzz'; the known keys are adversarial_ramp, .*, warm_up_steps$"),
        ({"task": "colorization", "mask": "box"}, "unknown key 'mask'"),
        ({"levels": 0}, "levels: expected 1 or more; got 0"),
        ({"scale": 3}, "scale: expected 2, 4 or 8; got 3"),
        ({"residual": True, "pixels": "logit"}, "^residual = true requires pixels"),
        ({"learning_rate": -1.0}, r"learning_rate: expected more than 0(\.0)?; got -1\.0"),
        ({"compile": "yes"}, "compile: expected true or false; got 'yes'"),
        ({"crop_scales": ["a"]}, r"^crop_scales\.0: expected a number; got 'a'$"),
        ({"blur_sigma": [1.0]}, r"^blur_sigma\.1: expected another value in the list; got \[1\.0\]$"),
        ({"levels": 3, "crop": 40}, "crop must be a multiple of 16 for levels = 3 .*; got 40"),
        ({"mean_blocks": 2}, "mean_blocks above 0 requires residual = true"),
        ({"residual": True, "mean_features": 4}, "mean_features above 0 requires a mean network"),
        ({"residual": True, "degradation_aware": True}, "degradation_aware = true requires a mean network"),
        ({"lowest_feature_temperature": 1.0}, "lowest_feature_temperature must be at most 0.9, which is"),
        ({"likelihood_weight": 0.0}, "all weights of the loss are 0"),
        ({"feature_weight": 1.0, "crop": 8, "levels": 1}, "feature_weight above 0 requires crop of 16 or more"),
        ({"feature_weight": 1.0, "crop": 32, "feature_side": 18}, "feature_side must be 0, or from 16 to 17"),
        ({"crop_scales": [1.0, 8.0], "crop": 4, "levels": 1}, "crop_scales contains 8, .* a crop of 4 pixels"),
        ({"compared": "mean", "lattice_weight": 1.0}, "compared = 'mean' requires a mean network"),
        ({"degradation_weight": 1.0}, "degradation_weight above 0 requires degradation_aware"),
        ({"jpeg_share": 0.7, "video_share": 0.7}, "must be at most 1"),
        ({"noise_sigma": [5.0, 1.0]}, "must contain the smaller value first"),
        ({"noises": []}, "must contain at least one entry"),
        ({"blur_share": 0.5}, "blur_share has no effect with clean_share = 1"),
        ({"noise_share": 0.5, "dither_share": 0.5}, "noise_share has .* or remove noise_share and dither_share"),
        ({"clean_share": 0.5, "task": "colorization"}, "degradations require task = 'super-resolution'"),
        ({"clean_share": 0.5, "pairs": True}, "the conditions of pairs are files, and are not degraded"),
        ({"crop_scales": [1.0, 0.5], "pairs": True}, "crop_scales must be \\[1.0\\] with pairs = true"),
        (AWARE | {"pairs": True, "known_share": 0.5}, "the degradation of pairs is not known"),
    ],
)
def test_wrong_recipes_are_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe_from_dict(values)


def test_every_builtin_recipe_loads() -> None:
    assert "tiny" in builtin_recipes()
    for name in builtin_recipes():
        recipe = load_recipe(name)
        assert recipe_from_dict(recipe.to_dict()) == recipe


def test_a_changed_byte_of_a_weight_is_found(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    checkpoint.save(path, small_model(torch.float32))
    with ZipFile(path) as archive:
        weight = archive.read(max(archive.infolist(), key=lambda info: info.file_size))
    contents = bytearray(path.read_bytes())
    contents[contents.index(weight) + 5] ^= 1
    path.write_bytes(contents)
    with pytest.raises(CheckpointError, match=r"model\.pt is damaged: the checksum of .* differs; restore the file"):
        checkpoint.load(path)
