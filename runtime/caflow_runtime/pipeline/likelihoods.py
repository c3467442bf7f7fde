"""What results say about the likelihood of rows: in parts, and how typical it is where the bundle is calibrated."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.manifest import Model
from caflow_runtime.errors import InputError, NotFinite
from caflow_runtime.flow.shares import Shares
from caflow_runtime.image import Image
from caflow_runtime.judge.calibration import (
    Calibration,
    Typicality,
    covariates,
    temperature_of,
    typicality,
)
from caflow_runtime.judge.reference import Reference
from caflow_runtime.pipeline.results import bits_per_dim
from caflow_runtime.rows.assembly import Row

NOT_FINITE = "its log-likelihood is not finite: the model has never seen the like"


class Parts(TypedDict):
    """The fields of `results.Likelihood` that are made from rows, one per condition."""

    per_level: NDArray[np.float64]
    dims: NDArray[np.int64]
    sides: list[tuple[int, int]]
    shares: list[Shares]
    typicality: Typicality | None


class Likelihoods:
    """Of one bundle."""

    def __init__(self, folder: Path, model: Model, calibration: Calibration | None) -> None:
        self._folder = folder
        self._model = model
        self._calibration = calibration

    @property
    def calibration(self) -> Calibration:
        """Which likelihoods are typical.

        Raises:
            InputError: if the bundle is not calibrated.
        """
        if self._calibration is None:
            raise InputError(
                f"{self._folder} is not calibrated: run caflow calibrate {self._folder} --data PHOTOGRAPHS"
            )
        return self._calibration

    def wanted_reference(self, temperature: float | Sequence[float]) -> Reference:
        """What is typical of samples at a temperature.

        Raises:
            InputError
        """
        return self.calibration.reference(temperature_of(temperature))

    def reference(self, temperature: float | Sequence[float] | None) -> Reference | None:
        """What is typical of samples, or with None of true images, if that is known."""
        try:
            return self.calibration.truth if temperature is None else self.wanted_reference(temperature)
        except InputError:
            return None

    def parts(self, rows: list[Row], conditions: list[Image], temperature: float | Sequence[float] | None) -> Parts:
        """Of rows, one per condition; `temperature` of samples, None of images."""
        scale = self._model.scale
        per_level = np.array([row.per_level for row in rows])
        dims = np.array([condition.size * scale**2 for condition in conditions])
        reference = self.reference(temperature)
        given = [covariates(condition, scale) for condition in conditions] if reference else []
        return {
            "per_level": per_level,
            "dims": dims,
            "sides": [(scale * condition.shape[0], scale * condition.shape[1]) for condition in conditions],
            "shares": [row.shares for row in rows],
            "typicality": typicality(reference, bits_per_dim(per_level, dims[:, None]), np.stack(given))
            if reference
            else None,
        }


def check_finite(row: Row, what: str) -> None:
    """Raises:
    NotFinite: if its likelihood is not.
    """
    if not np.isfinite(row.per_level).all():
        raise NotFinite(f"{what}: {NOT_FINITE}")
