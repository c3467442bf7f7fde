"""Answers of served models, without a server: requests to a small bundle, alone and in groups."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import calibrated_pipe as pipe
from tiny import pairs_of_photographs, photograph

from caflow_deploy.serving.request import Answer, Request, Tensors
from caflow_deploy.serving.served_models import Sampler, Scorer
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.choice import Untypical
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.sampling import sample_best

__all__ = ["pipe"]  # a fixture


def ask(image: NDArray[np.uint8], **parameters: Any) -> Request:
    return Request({"image": image}, parameters)


def tensors(answer: Answer) -> Tensors:
    assert isinstance(answer, dict), answer
    return answer


def test_requests_computed_together_get_the_answers_that_each_gets_alone(pipe: Pipeline, photographs: Path) -> None:
    asked: list[tuple[NDArray[np.uint8], dict[str, Any]]] = [
        (photograph(photographs, 0, 8, 12)[None], {"n": 3, "seed": 5}),
        (np.stack([photograph(photographs, k, 12, 8) for k in range(2)]), {"n": 3, "seed": 5}),
        (photograph(photographs, 1, 8, 12)[None], {"n": 2, "rank": "typical"}),
        (photograph(photographs, 2, 8, 12)[None], {"n": 2, "consistent": True}),
    ]
    answers = Sampler(pipe).answer([ask(image, **parameters) for image, parameters in asked])
    for (image, parameters), answer in zip(asked, answers, strict=True):
        best, given = pipe.best_of(image, **parameters), tensors(answer)
        np.testing.assert_array_equal(given["image"], best.images)
        np.testing.assert_array_equal(given["sample"][:, 0], best.sample)
        np.testing.assert_allclose(given["log_likelihood"][:, 0], best.log_likelihood, rtol=1e-6)
        np.testing.assert_allclose(given["bits_per_dim"][:, 0], best.bits_per_dim, rtol=1e-6)
        assert given["outcome"].tolist() == [[b"unjudged"]] * len(image)
        assert {spec.name for spec in Sampler.outputs} == set(given)
        for spec in Sampler.outputs:
            assert given[spec.name].ndim == len(spec.shape)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n": 0}, "parameters of model: Expected `int` >= 1 - at `$.n`"),
        ({"tau": 1}, "unknown field `tau`"),
        ({"temperature": math.inf}, "temperature must be finite"),
        ({"rank": "typical", "temperature": 0.3}, "0.3"),
        ({"min_typicality": 1e-9}, "use a larger α, or calibrate with more photographs"),
        ({"n": 1000}, "got 1024000: request fewer samples or smaller images"),
    ],
)
def test_a_refused_request_does_not_affect_the_others(
    pipe: Pipeline, photographs: Path, parameters: dict[str, Any], message: str
) -> None:
    image = photograph(photographs, 0, 8, 8)[None]
    good, bad, also_good = Sampler(pipe, max_pixels=2**16).answer([ask(image), ask(image, **parameters), ask(image)])
    assert isinstance(bad, InputError)
    assert message in str(bad)
    for answer in (good, also_good):
        np.testing.assert_array_equal(tensors(answer)["image"], pipe.best_of(image).images)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "inputs of model: expected image; got none"),
        ({"picture": np.zeros((1, 8, 8, 3), np.uint8)}, "inputs of model: expected image; got picture"),
        ({"image": np.zeros((1, 8, 8, 4), np.uint8)}, "image[0]: expected an array (H, W, 3) of uint8 RGB"),
        ({"image": np.zeros((0, 8, 8, 3), np.uint8)}, "at least one image"),
        ({"image": np.zeros((1, 0, 8, 3), np.uint8)}, "at least one pixel"),
        (dict.fromkeys(map(str, range(10**5)), np.zeros(1)), "expected image; got 0, 1, 2, 3, …"),
    ],
)
def test_wrong_tensors_are_refused(pipe: Pipeline, given: dict[str, Any], message: str) -> None:
    (answer,) = Sampler(pipe).answer([Request(given, {})])
    assert isinstance(answer, InputError)
    assert message in str(answer)


def test_untypical_results_are_dropped_replaced_or_marked_as_requested(pipe: Pipeline, photographs: Path) -> None:
    """If no sample is accepted, only a request with `otherwise` = "drop" fails. The other requests have results."""
    image = photograph(photographs, 1, 8, 8)[None]
    wanted = pipe.best_of(image, n=3, min_typicality=0.999, redraws=20, otherwise="bicubic")
    assert wanted.outcome == ["bicubic"]
    common = {"n": 3, "min_typicality": 0.999}
    dropped, replaced, marked = Sampler(pipe).answer(
        [ask(image, **common, otherwise=otherwise) for otherwise in ("drop", "bicubic", "keep")]
    )
    assert isinstance(dropped, Untypical)
    np.testing.assert_array_equal(tensors(replaced)["image"], wanted.images)
    assert math.isnan(tensors(replaced)["log_likelihood"][0, 0])
    assert [tensors(answer)["outcome"][0, 0] for answer in (replaced, marked)] == [b"bicubic", b"rejected"]


@pytest.mark.parametrize(("side", "n"), [(8, 10), (160, 6)])
def test_large_images_get_fewer_samples_by_default(pipe: Pipeline, photographs: Path, side: int, n: int) -> None:
    image = photograph(photographs, 1, side, side)
    (answer,) = Sampler(pipe).answer([ask(image[None])])
    wanted = pipe.best_of(image, n=n)
    assert tensors(answer)["sample"].item() == wanted.sample[0]
    assert tensors(answer)["log_likelihood"].item() == pytest.approx(wanted.log_likelihood[0], rel=1e-6)


def test_targets_are_scored_and_judged(pipe: Pipeline, photographs: Path) -> None:
    pairs = pairs_of_photographs(pipe, photographs, 1)
    target, condition = (np.stack([getattr(pair, name) for pair in pairs]) for name in ("target", "condition"))
    score = pipe.score(target, condition)
    assert score.image_typicality is not None
    alpha = float(np.median(score.image_typicality.value))
    asked = [
        Request({"target": target, "condition": condition}, {"min_typicality": alpha}),
        Request({"target": target, "condition": condition[1:]}, {}),
        Request({"target": target, "condition": condition}, {}),
    ]
    judged, uneven, usual = Scorer(pipe).answer(asked)
    assert tensors(judged)["accepted"][:, 0].tolist() == (score.image_typicality.value >= alpha).tolist()
    np.testing.assert_allclose(tensors(usual)["log_likelihood"][:, 0], score.log_likelihood, rtol=1e-6)
    np.testing.assert_allclose(tensors(usual)["image_typicality"][:, 0], score.image_typicality.value)
    assert isinstance(uneven, InputError)


def test_a_batch_of_requests_has_at_most_the_pixels_that_one_request_may_have(
    pipe: Pipeline, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counting(pipe: Pipeline, images: Any, config: DrawOptions) -> Any:
        sizes.append(len(images))
        return sample_best(pipe, images, config)

    monkeypatch.setattr("caflow_deploy.serving.served_models.sample_best", counting)
    images = [photograph(photographs, k, 8, 8)[None] for k in range(5)]
    answers = Sampler(pipe, max_pixels=2 * 3 * 32 * 32).answer([ask(image, n=3) for image in images])
    assert sizes == [2, 2, 1]
    for image, answer in zip(images, answers, strict=True):
        np.testing.assert_array_equal(tensors(answer)["image"], pipe.best_of(image, n=3).images)
