"""The verdict on one pair of a target and a condition."""

from typing import Literal

import msgspec


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Verdict on one pair: a line of `scores.jsonl`.

    After an error all numbers are None, except the size if it is known. Paths are written by `as_text`. Lists per level
    begin with the coarsest level.
    """

    target: str
    condition: str
    verdict: Literal["accepted", "rejected", "unjudged", "error"]
    """`unjudged` means that the calibration contains no images like this one."""
    reason: str | None = None
    """Why the pair was not accepted, for people; None if it was accepted."""
    image_typicality: float | None = None
    """Typicality among true images, 0…1. This field and the next two are None if the pair cannot be judged."""
    image_typicality_per_level: list[float] | None = None
    residuals: list[float] | None = None
    """Residuals of each level's bits/dim, in standard deviations; positive means less likely than expected."""
    log_likelihood: float | None = None
    """Log-likelihood of the target given the condition, in nats."""
    log_likelihood_per_level: list[float] | None = None
    bits_per_dim: float | None = None
    width: int | None = None
    """Width of the target, in pixels."""
    height: int | None = None
    target_stamp: str | None = None
    condition_stamp: str | None = None
    """`stamp_of` each file, taken before the file was read. If a stamp has changed, the pair is judged again."""
    sha256: str = ""
    """Hash of all other fields (`seal`); empty until the verdict is written."""
