"""Untypical results in the commands, the calibration of a bundle, and maps of likelihoods."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import caflow, image_report, score_report
from tiny import CALIBRATED_SIDES, CALIBRATED_TEMPERATURE, calibrated_pipe, photograph

from caflow_deploy.images.image_files import read_image, write_image
from caflow_deploy.images.photographs import CROPS
from caflow_deploy.images.result_pictures import names
from caflow_deploy.jobs.image_job import ImageJob
from caflow_deploy.jobs.process_image import process_image
from caflow_deploy.serving.request import Request
from caflow_deploy.serving.served_models import Scorer
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.batching.runner import Runner
from caflow_runtime.batching.tile_merging import BatchItem
from caflow_runtime.errors import NotFinite
from caflow_runtime.ood.calibration import NAME, read_calibration
from caflow_runtime.ood.consistency import enlarge_image
from caflow_runtime.pipeline.pipeline import Pipeline

__all__ = ["calibrated_pipe"]  # a fixture

ALL, NONE = 0.999, 0.02
"""Values of α at which every image, or no usual image, is untypical."""


@pytest.fixture
def source(photographs: Path, tmp_path: Path) -> Path:
    write_image(tmp_path / "small.png", photograph(photographs, 1, 8, 12))
    return tmp_path / "small.png"


def test_caflow_calibrate_computes_the_known_calibration_and_does_not_overwrite_one(
    copied: Path, photographs: Path, calibrated: Path
) -> None:
    sides = ",".join(map(str, CALIBRATED_SIDES))
    options = ["--data", photographs, "--sides", sides, "--temperatures", CALIBRATED_TEMPERATURE]
    done = caflow("calibrate", copied, *options, code=0)
    assert "calibrated with 156 crops of 13 photographs" in done.stdout
    assert "samples, τ = 0.8" in done.stdout
    assert "2 of 13 photographs, about" in done.stderr
    known, found = read_calibration(calibrated), read_calibration(copied)
    assert known is not None
    assert found is not None
    # The known calibration was made on another machine, so values are only close.
    for one, other in ((found.truth, known.truth), (found.samples[0], known.samples[0])):
        for kind, known_kind in zip(one.kinds, other.kinds, strict=True):
            np.testing.assert_allclose(kind.bits_per_dim, known_kind.bits_per_dim, rtol=1e-3)
            for group, known_group in zip(kind.groups, known_kind.groups, strict=True):
                np.testing.assert_allclose(group.distances, known_group.distances, rtol=1e-2)
    assert [kind.images for kind in found.truth.kinds] == [13 * 2 * CROPS, 13 * CROPS]
    assert [part.counts for part in found.coverage] == [part.counts for part in known.coverage]
    assert found.photographs == 13
    for more, said in (
        ([], "--force"),
        (["--sides", 4096, "--force"], "smaller than 4096×4096 pixels"),
        (["--sides", "7,64", "--force"], "--sides must be at least 16 pixels"),
        (["--temperatures", "0.8,0.8"], "must be different numbers"),
    ):
        assert said in caflow("calibrate", copied, *options, *more, code=2).stderr
        assert read_calibration(copied) == found


@pytest.mark.parametrize(("untypical", "became"), [("keep", "marked"), ("drop", "dropped"), ("bicubic", "bicubic")])
def test_untypical_images_are_marked_dropped_or_replaced(
    calibrated: Path, source: Path, tmp_path: Path, untypical: str, became: str
) -> None:
    output = tmp_path / "out.png"
    options = ["-o", output, "--model", calibrated, "-n", 2, "--json", "--redraws", 1, "--otherwise", untypical]
    usual = caflow("image", source, *options, "--min-typicality", NONE, code=0)
    assert json.loads(usual.stdout)["outcome"] == "accepted"
    assert json.loads(usual.stdout)["judge"] == "sample"
    assert "0 of 1 image is untypical" in usual.stderr
    output.unlink()
    done = caflow("image", source, *options, "--min-typicality", ALL, code=untypical == "drop")
    assert f"1 of 1 image is untypical, {became}\n" in done.stderr
    if untypical == "drop":
        assert not output.exists()
        assert not done.stdout
        return
    report = json.loads(done.stdout)
    if untypical == "keep":
        assert report["outcome"] == "rejected"
        assert 0 < report["sample_typicality"] < ALL
    else:
        assert (report["outcome"], report["log_likelihood"]) == ("bicubic", None)
        np.testing.assert_array_equal(read_image(output).rgb, enlarge_image(read_image(source).rgb, 4))


@pytest.mark.parametrize("name", ["out.png", "out.jpg"])
def test_all_commands_have_the_same_verdict(calibrated_pipe: Pipeline, source: Path, tmp_path: Path, name: str) -> None:
    """With `--judge image` the written file is judged, as by `score`, `filter` and a server. The drawn sample, from
    which a JPEG differs, has its own typicality.
    """
    output, bundle, condition = tmp_path / name, calibrated_pipe.folder, read_image(source).rgb
    values = calibrated_pipe.sample(condition, n=4, seed=3)
    judged = [calibrated_pipe.score(image, condition).image_typicality for image in values.images[0]]
    ranked = [one.value[0] for one in judged if one]
    alpha = float(np.median(ranked))
    drawing = ["-n", 4, "--seed", 3, "--min-typicality", alpha, "--judge", "image", "--redraws", 0]
    report = image_report(source, output, bundle, *drawing)
    is_accepted = report["image_typicality"] >= alpha
    assert (report["judge"], report["density_at"]) == ("image", "sample")
    assert report["outcome"] == ("accepted" if is_accepted else "rejected")
    assert values.sample_typicality is not None
    chosen = values.sample_typicality.value[0, values.sample[0].tolist().index(report["sample"])]
    assert report["sample_typicality"] == pytest.approx(chosen, rel=1e-6)
    if name == "out.png":  # as JPEGs, all four samples may be rejected
        assert is_accepted
        assert report["sample"] == values.sample[0][next(k for k, value in enumerate(ranked) if value >= alpha)]
    typicality = pytest.approx(report["image_typicality"], rel=1e-6)
    assert score_report(output, source, bundle)["image_typicality"] == typicality
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(f"target,condition\n{output},{source}\n")
    done = caflow("filter", pairs, "-o", tmp_path / "filter", "--min-typicality", alpha, "--model", bundle, "--json")
    verdict = json.loads(done.stdout)
    assert verdict["image_typicality"] == typicality
    assert verdict["verdict"] == ("accepted" if is_accepted else "rejected")
    given = {"target": read_image(output).rgb[None], "condition": condition[None]}
    (answer,) = Scorer(calibrated_pipe).answer([Request(given, {"min_typicality": alpha})])
    assert isinstance(answer, dict)
    assert answer["image_typicality"][0, 0] == typicality
    assert answer["accepted"][0, 0] == is_accepted


def test_infinite_likelihoods_are_rejected(
    calibrated_pipe: Pipeline, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image of such a file is no result, but the other samples and the other images of the batch are."""
    score, judged = Runner.score, list[BatchItem]()

    def score_first_as_nan(*arguments: Any) -> Iterator[BatchItem]:
        for row in score(*arguments):
            judged.append(row if judged else replace(row, per_level=np.full_like(row.per_level, np.nan)))
            yield judged[-1]

    monkeypatch.setattr(Runner, "score", score_first_as_nan)
    conditions = [read_image(source).rgb] * 2
    judging = DrawOptions(2, min_typicality=NONE, redraws=0, judge="image")
    best = calibrated_pipe.best_of(conditions, judging)
    assert best.outcome == ["accepted", "accepted"]
    assert best.rejected is not None
    assert best.rejected.tolist() == [1, 0]
    assert np.isfinite(best.log_likelihood).all()
    assert best.log_likelihood[0] < best.log_likelihood[1]  # the less likely sample remained
    judged.clear()
    with pytest.raises(NotFinite, match=r"no sample of images\[0\] is finite"):
        calibrated_pipe.best_of(conditions[:1], judging, n=1)


def test_maps_of_all_levels_add_up_to_the_likelihood(calibrated_pipe: Pipeline, source: Path, tmp_path: Path) -> None:
    given = source, tmp_path / "out.png", calibrated_pipe.folder, "--maps"
    names = {"likelihood", "likelihood-0", "likelihood-1", "uncertainty"}
    assert set(image_report(*given)["maps"]) == names
    for name in names:
        assert read_image(tmp_path / f"out-{name}.png").rgb.shape == (32, 48, 3)
    drawn = calibrated_pipe.sample(read_image(source).rgb, n=3)
    levels = np.asarray(drawn.log_likelihood_map_per_level)
    assert levels.shape == (1, 3, 2, 32, 48)
    np.testing.assert_allclose(levels.sum((3, 4)), drawn.per_level, rtol=1e-4)
    np.testing.assert_allclose(levels.sum(2), np.asarray(drawn.log_likelihood_map), rtol=1e-3, atol=1e-4)


def test_caflow_score_reports_likelihood_typicality_and_maps(
    calibrated_pipe: Pipeline, source: Path, tmp_path: Path
) -> None:
    large, condition = tmp_path / "large.png", read_image(source).rgb
    write_image(large, calibrated_pipe.best_of(condition, n=1).images[0])
    scored = calibrated_pipe.score(read_image(large).rgb, condition)
    assert scored.image_typicality is not None
    bundle, maps = calibrated_pipe.folder, ["--maps", tmp_path / "maps"]
    report = score_report(large, source, bundle, *maps)
    assert report["image_typicality"] == pytest.approx(scored.image_typicality.value[0])
    assert report["log_likelihood"] == pytest.approx(scored.log_likelihood[0])
    assert report["bits_per_dim"] == pytest.approx(scored.bits_per_dim[0])
    names = {"large-likelihood.png", "large-likelihood-0.png", "large-likelihood-1.png"}
    assert {path.name for path in (tmp_path / "maps").iterdir()} == names
    table = caflow("score", large, source, "--model", bundle, *maps).stdout
    assert f"{scored.image_typicality.value[0]:.3f}" in table
    assert f"{scored.bits_per_dim[0]:.4f}" in table
    assert "both sides must be 4 times as long" in caflow("score", large, large, "--model", bundle, code=2).stderr


def test_a_wrong_calibration_is_replaced(copied: Path, photographs: Path, source: Path, tmp_path: Path) -> None:
    (copied / NAME).write_text("{")
    broken = caflow("image", source, "-o", tmp_path / "out.png", "--model", copied, code=2)
    assert "run caflow calibrate again" in broken.stderr
    done = caflow("calibrate", copied, "--data", photographs, "--sides", 16, "--temperatures", 0.8, code=0)
    assert "fewer than 100 photographs" in done.stderr
    caflow("image", source, "-o", tmp_path / "out.png", "--model", copied, "-n", 1, code=0)


def test_maps_of_an_earlier_run_are_removed(calibrated_pipe: Pipeline, source: Path, tmp_path: Path) -> None:
    job = ImageJob(source, tmp_path / "out.png", (), {name: tmp_path / f"out-{name}.png" for name in names(2, 0)})
    for otherwise in ("bicubic", "drop"):
        for path in job.extras.values():
            path.write_bytes(b"of an earlier run")
        process_image(calibrated_pipe, job, DrawOptions(1, min_typicality=ALL, redraws=0, otherwise=otherwise))
        assert not any(path.exists() for path in job.extras.values())


def test_a_result_that_cannot_be_removed_is_a_failure(calibrated_pipe: Pipeline, source: Path, tmp_path: Path) -> None:
    """The result of an earlier run would otherwise pass for that of the dropped image."""
    output = tmp_path / "out.png"
    output.mkdir()
    drawing = DrawOptions(1, min_typicality=ALL, redraws=0, otherwise="drop")
    done = process_image(calibrated_pipe, ImageJob(source, output, (), {}), drawing)
    assert not done.is_dropped
    assert done.stamp is None
    assert done.wrong is not None
    assert f"dropped, but {output} of an earlier run cannot be removed (" in done.wrong
