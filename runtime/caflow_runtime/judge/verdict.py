"""What became of a pair that was judged."""

from typing import Literal

import msgspec


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of a pair: a line of `scores.jsonl`. Of an error all numbers are None, but for sizes that are known.

    Paths are written as by `as_text`. Levels are in order, the coarsest first.
    """

    target: str
    condition: str
    verdict: Literal["accepted", "rejected", "unjudged", "error"]
    """Unjudged is what the calibration knows no images like."""
    reason: str | None = None
    """Of what was not accepted, for people."""
    image_typicality: float | None = None
    """0…1 among true images; this and the next two are None of what cannot be judged."""
    image_typicality_per_level: list[float] | None = None
    residuals: list[float] | None = None
    """Standard deviations of each level's bits/dim above what is expected."""
    log_likelihood: float | None = None
    """Nats."""
    log_likelihood_per_level: list[float] | None = None
    bits_per_dim: float | None = None
    width: int | None = None
    """Of the target, in pixels."""
    height: int | None = None
    target_stamp: str | None = None
    condition_stamp: str | None = None
    """`stamp_of` the files, taken before they were read: where it has changed, a pair is judged again."""
    sha256: str = ""
    """Of all other fields (`seal`), when it was written; empty before."""
