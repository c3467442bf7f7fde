"""Likelihoods in results: the parts of each likelihood and, if the bundle is calibrated, how typical it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.batching.tile_merging import BatchItem
from caflow_runtime.bundle.known_values import dims_of
from caflow_runtime.bundle.manifest import Model
from caflow_runtime.errors import InputError, NotFinite
from caflow_runtime.flow.latent_statistics import STATISTICS
from caflow_runtime.flow.log_likelihood_maps import LogLikelihoodMaps
from caflow_runtime.image_arrays import Image
from caflow_runtime.ood.calibration import Calibration, why_missing
from caflow_runtime.ood.typicality import Floats, Typicality, covariates, temperature_of, typicality
from caflow_runtime.ood.typicality_records import TypicalityModel
from caflow_runtime.pipeline.results import bits_per_dim

NOT_FINITE = "its log-likelihood is not finite: the image is too different from the training images"


class Parts(TypedDict):
    """Fields of `results.Likelihood` that are computed from items, with one item per condition."""

    per_level: NDArray[np.float64]
    dims: NDArray[np.int64]
    sides: list[tuple[int, int]]
    maps: list[LogLikelihoodMaps]
    sample_typicality: Typicality | None
    image_typicality: Typicality | None
    statistics: Floats | None


class Likelihoods:
    """Computes the fields of results that are about likelihoods, for one bundle."""

    def __init__(self, folder: Path, model: Model, calibration: Calibration | None) -> None:
        self._folder = folder
        self._model = model
        self._calibration = calibration

    @property
    def calibration(self) -> Calibration:
        """Calibration of the bundle.

        Raises:
            InputError: if the bundle is not calibrated.
        """
        if self._calibration is None:
            raise InputError(": ".join(why_missing(self._folder)))
        return self._calibration

    def typicality_model(self, temperature: float | Sequence[float] | None) -> TypicalityModel | None:
        """Return the typicality model of samples at a temperature.

        If `temperature` is None, it is that of true images. Return None if the bundle is not calibrated for
        that.
        """
        try:
            known = self.calibration
            return known.truth if temperature is None else known.typicality_model(temperature_of(temperature))
        except InputError:
            return None

    def typicality_of(
        self, items: list[BatchItem], conditions: list[Image], temperature: float | Sequence[float] | None
    ) -> Typicality | None:
        """Return the typicality of samples at a temperature, or of scored images if `temperature` is None.

        Return None if the bundle is not calibrated for that.
        """
        typicality_model = self.typicality_model(temperature)
        if typicality_model is None:
            return None
        dims = np.array([[dims_of(condition, self._model)] for condition in conditions])
        bits = bits_per_dim([item.per_level for item in items], dims)
        measures = bits if temperature is not None else np.concatenate([bits, self._statistics(items)], 1)
        given = np.stack([covariates(condition, self._model) for condition in conditions])
        return typicality(typicality_model, measures, given)

    def parts(
        self, items: list[BatchItem], conditions: list[Image], temperature: float | Sequence[float] | None
    ) -> Parts:
        """Return the likelihood fields of items, one item per condition. `temperature` is None for scored images."""
        scale, is_image = self._model.scale, temperature is None
        typical = self.typicality_of(items, conditions, temperature)
        return {
            "per_level": np.array([item.per_level for item in items]),
            "dims": np.array([dims_of(condition, self._model) for condition in conditions]),
            "sides": [(scale * condition.shape[0], scale * condition.shape[1]) for condition in conditions],
            "maps": [item.maps for item in items],
            "sample_typicality": None if is_image else typical,
            "image_typicality": typical if is_image else None,
            "statistics": self._statistics(items) if is_image else None,
        }

    def _statistics(self, items: list[BatchItem]) -> Floats:
        """Return (R, M − n) statistics of latents. They are NaN for an enlarged input, which was not scored."""
        blocks = sum(len(channels) for channels in self._model.noise_channels)
        unknown = np.full(blocks * len(STATISTICS), np.nan)
        return np.stack([unknown if item.statistics is None else item.statistics for item in items])


def check_finite(item: BatchItem, what: str) -> None:
    """Check that the likelihood of an item is finite.

    Arguments:
        what: name of the item in the message.

    Raises:
        NotFinite: if it is not finite.
    """
    if not item.has_finite_likelihood:
        raise NotFinite(f"{what}: {NOT_FINITE}")
