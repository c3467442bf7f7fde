"""Calibrations that Python and C++ must both refuse: that of the tests' bundle, with one wrong value each."""

from typing import Any

import numpy as np

REMOVED = object()
"""In place of a value: the field is missing."""
IMPOSSIBLE: list[tuple[str, Any]] = [
    ("unknown", 0),
    ("canary", REMOVED),
    ("coverage", REMOVED),
    ("photographs", 0),
    ("photographs", 157),  # more photographs than images
    ("samples", lambda samples: samples * 2),
    ("samples.0.temperature", None),
    ("truth", lambda truth: truth | {"coloured": None, "grey": None}),
    ("truth.temperature", 0.8),
    ("truth.coloured.images", 0),
    ("truth.coloured.images", 103),  # differs from the number of quantiles
    ("truth.coloured.images", 2.5),
    ("truth.coloured.lowest", [0.0, 0.0, 0.0]),
    ("truth.coloured.lowest.0", "0"),
    ("truth.coloured.highest.0", 0),  # below lowest
    ("truth.coloured.centre.3", -1),
    ("truth.coloured.centre.0", 65.0),
    ("truth.coloured.scale.0", 1e-300),
    ("truth.coloured.mean", []),
    ("truth.coloured.mean.0.0", 1e31),
    ("truth.coloured.log_spread.0.0", 101.0),
    ("truth.coloured.precision", [[1.0]]),
    ("truth.coloured.precision.0.0", -1.0),
    ("truth.coloured.precision.0.1", 1e6),  # not symmetric
    ("truth.coloured.precision", lambda rows: np.where(np.eye(len(rows)), 1.0, 2.0).tolist()),  # negative distances
    ("truth.coloured.groups", []),
    ("truth.coloured.groups.0.distances", [1.0]),
    ("truth.coloured.groups.0.distances.5", 0),  # not ascending
    ("truth.coloured.groups.0.images", 103),
    ("truth.coloured.groups.0.sizes", [0.0, 65.0]),
    ("truth.coloured.groups.0.name", None),
    ("truth.grey.groups", lambda groups: groups * 2),
    ("truth.coloured.residuals", [[0.0] * 104]),
    ("truth.coloured.residuals.0.0", True),
    ("truth.coloured.residuals.1.5", 1e3),
    ("truth.coloured.bits_per_dim", [0.0, 1.0]),
    ("truth.coloured.bits_per_dim_per_level", []),
    ("coverage.0.level", 8),
    ("coverage.0.counts", [0, 0]),
    ("coverage.0.quantity", "median"),
    ("canary.log_likelihood", 0),
    ("canary.log_likelihood", 1e300),
    ("canary.backend", 7),
]
"""Values that no calibration can have, by their path, or functions of the right value."""
EDITED: list[tuple[str, Any]] = [
    ("format_version", 1),
    ("format", "caflow-calibrations"),
    ("manifest_sha256", "0" * 64),
    ("sha256", "0" * 64),
    ("sha256", REMOVED),
    ("photographs", 12),
    ("samples", []),
    ("samples", lambda samples: [*samples, samples[0] | {"temperature": 0.5}]),
    ("samples.0.coloured.bits_per_dim.0", lambda bits: bits - 1),
    ("truth.coloured.mean.0.0", 0.125),
    ("canary.log_likelihood", lambda value: value - 1),
    ("canary.backend", "another"),
]
"""Possible values, but not those of this calibration, so that its hash or the bundle's differs."""


def changed(contents: Any, path: str, value: Any) -> Any:
    """Return a copy of a calibration's JSON with another value at a path such as `samples.0.temperature`."""
    first, _, rest = path.partition(".")
    key: Any = int(first) if isinstance(contents, list) else first
    copy = contents.copy()
    if rest:
        copy[key] = changed(copy[key], rest, value)
    elif value is REMOVED:
        del copy[key]
    else:
        copy[key] = value(copy[key]) if callable(value) else value
    return copy
