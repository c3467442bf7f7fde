"""The ways in which a folder is not a bundle that can be used."""

from caflow_runtime.errors import CaflowError


class BundleError(CaflowError, ValueError):
    """A folder is not a bundle that this version can use."""


class NoBundle(BundleError):
    """There is no folder of that name, or no manifest in it."""


class ManifestTooLarge(BundleError):
    """The manifest is larger than any manifest is."""


class WrongManifest(BundleError):
    """The manifest is not JSON, or a field is missing, unknown or of the wrong type."""


class UnknownFormat(BundleError):
    """The manifest is of another format or another version of it."""


class PathOutside(BundleError):
    """The manifest names a file that is not inside the folder."""


class MissingFile(BundleError):
    """A file that the manifest names is not there."""


class TruncatedFile(BundleError):
    """A file is not as long as the manifest says."""


class WrongHash(BundleError):
    """A file's contents are not those that the manifest was written for."""


class MissingGraph(BundleError):
    """The manifest lacks a graph that a model of its levels needs."""


class UnlistedFile(BundleError):
    """A graph reads weights from a file that the manifest does not list."""


class WrongShape(BundleError):
    """A graph's input or output is not of the shape or type that the model's numbers, or the manifest, give."""


class BrokenGraph(BundleError):
    """A backend cannot load a graph, though the file is the one that the manifest was written for."""
