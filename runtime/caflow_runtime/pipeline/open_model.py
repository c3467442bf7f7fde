"""An open bundle, as far as drawing and scoring need it."""

from pathlib import Path

from caflow_runtime.batching.runner import Runner
from caflow_runtime.bundle.manifest import Manifest
from caflow_runtime.ood.calibration import Calibration
from caflow_runtime.ood.consistency import Consistency
from caflow_runtime.pipeline.calibrated_likelihoods import Likelihoods


class OpenModel:
    """Graphs that run, how samples compare with conditions, and which likelihoods are typical."""

    def __init__(self, runner: Runner, calibration: Calibration | None) -> None:
        graphs = runner.graphs
        self.runner = runner
        self.consistency = Consistency(graphs, graphs.manifest)
        self.likelihoods = Likelihoods(graphs.folder, graphs.manifest.model, calibration)

    @property
    def manifest(self) -> Manifest:
        """Manifest of the bundle."""
        return self.runner.graphs.manifest

    @property
    def folder(self) -> Path:
        """Folder of the bundle."""
        return self.runner.graphs.folder

    @property
    def calibration(self) -> Calibration:
        """Calibration of the bundle: which likelihoods are typical.

        Raises:
            InputError: if the bundle is not calibrated.
        """
        return self.likelihoods.calibration
