"""The verdict on one pair of a target and a condition, and how it is decided."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from caflow_runtime.ood.typicality import Typicality, reason

Decision = Literal["accepted", "rejected", "unjudged"]
Probability = Annotated[float, Meta(ge=0, le=1)]
"""Number from 0 to 1."""
Side = Annotated[int, Meta(ge=1, lt=2**31)]
"""Number of pixels, at least 1."""


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Verdict on one pair: a line of `scores.jsonl`.

    After an error all numbers are None, except the size if it is known. Lists per level begin with the coarsest level.
    """

    target: str
    """Path of the target, as in the list of pairs. Bytes that are not UTF-8 are written as `\\x` and two
    hexadecimal digits."""
    condition: str
    """Path of the condition, written in the same way."""
    verdict: Literal["accepted", "rejected", "unjudged", "error"]
    """Whether the pair was accepted. "unjudged" means that the calibration contains no images like this one. "error"
    means that the pair could not be scored."""
    reason: str | None = None
    """Why the pair was not accepted, for people; None if it was accepted."""
    image_typicality: Probability | None = None
    """Typicality among true images, 0…1. This field and the next two are None if the pair cannot be judged."""
    image_typicality_per_level: list[Probability] | None = None
    """Typicality of each level's bits/dim alone, 0…1."""
    residuals: list[float] | None = None
    """Residuals of each level's bits/dim, in standard deviations; positive means less likely than expected."""
    log_likelihood: float | None = None
    """Log-likelihood of the target given the condition, in nats."""
    log_likelihood_per_level: list[float] | None = None
    """Part of each level in `log_likelihood`, in nats."""
    bits_per_dim: float | None = None
    """Negative log-likelihood in bits per dimension."""
    width: Side | None = None
    """Width of the target, in pixels."""
    height: Side | None = None
    """Height of the target, in pixels."""
    target_stamp: str | None = None
    """Size and modification time of the target's file, taken before it was read; None if it was missing.
    If the stamp has changed, the pair is judged again."""
    condition_stamp: str | None = None
    """Stamp of the condition's file."""
    sha256: str = ""
    """Hash of all other fields; empty until the verdict is written."""


def decide(typical: Typicality, min_typicality: float) -> tuple[Decision, str | None]:
    """Return the verdict on an image, and why it is not accepted, in words.

    It is accepted if its typicality among true images is at least `min_typicality`.

    Arguments:
        typical: typicality of one image.
    """
    if typical.accept(min_typicality):
        return "accepted", None
    return "rejected" if typical.is_judged else "unjudged", reason(typical)
