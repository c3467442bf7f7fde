"""`caflow-export --triton`: the model repository, without Triton. test_serving.py runs Triton with it."""

from pathlib import Path

import pytest
from commands import caflow_export

from caflow_deploy.serving.served_models import SERVICES, Sampler, Scorer
from caflow_export.triton import config, write_repository
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.pipeline import load


def test_a_repository_has_both_models_and_one_bundle(copied_calibrated: Path, tmp_path: Path) -> None:
    done = caflow_export(copied_calibrated.rename(tmp_path / "model.caflow"), "--triton", tmp_path / "new", code=0)
    assert "model" in done.stdout
    folders = sorted((tmp_path / "new").iterdir())
    assert [folder.name for folder in folders] == ["model", "model-score"]
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == ["1", "config.pbtxt"]
        assert "import TritonPythonModel" in (folder / "1" / "model.py").read_text()
        text = (folder / "config.pbtxt").read_text()
        assert f'name: "{folder.name}"' in text
        assert 'key: "bundle" value { string_value: "model/1/model.caflow" }' in text  # shared by both models
    with load(folders[0] / "1" / "model.caflow") as pipe:
        assert pipe.calibration.typicality_model(0.8)


@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize("channels", [3, 4])
def test_tensors_are_those_of_the_service(kind: type[Sampler] | type[Scorer], channels: int) -> None:
    text = config(kind, "name", "bundle", channels)
    for spec in kind.inputs_of(channels):
        sides = list(spec.shape[1:])
        assert f'name: "{spec.name}" data_type: TYPE_UINT8 dims: {sides} allow_ragged_batch: true' in text
    for spec in kind.outputs:
        datatype = "STRING" if spec.datatype == "BYTES" else spec.datatype
        assert f'name: "{spec.name}" data_type: TYPE_{datatype} dims: {list(spec.shape[1:])} }}' in text


def test_nothing_is_overwritten_unasked(calibrated: Path, tmp_path: Path) -> None:
    (tmp_path / "model-score").mkdir()
    (tmp_path / "model-score" / "mine").touch()
    (tmp_path / "model-score" / "config.pbtxt").touch()
    with pytest.raises(InputError, match="model-score already exists: give --force to replace it"):
        write_repository(calibrated, tmp_path, force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["model-score"]
    write_repository(calibrated, tmp_path, force=True)
    assert not (tmp_path / "model-score" / "mine").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model-score"]


def test_only_triton_models_are_replaced_and_never_the_exported_bundle(
    calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(InputError, match="model is not a Triton model, so --force does not replace it"):
        write_repository(calibrated, tmp_path, force=True)
    (tmp_path / "model").rmdir()
    write_repository(calibrated, tmp_path, force=False)
    copy = tmp_path / "model" / "1" / "model.caflow"
    monkeypatch.chdir(copy)
    for bundle in (copy, Path()):
        with pytest.raises(InputError, match="which would be replaced: give another folder with --triton"):
            write_repository(bundle, tmp_path, force=True)
    assert (copy / "manifest.json").exists()
