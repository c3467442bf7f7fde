"""Exceptions for folders that are not valid bundles."""

from caflow_runtime.errors import CaflowError


class BundleError(CaflowError, ValueError):
    """A folder is not a bundle that this version can use. The subclasses tell the reasons apart."""


class NoBundle(BundleError):
    """The folder does not exist, or contains no manifest."""


class ManifestTooLarge(BundleError):
    """The manifest is larger than the limit."""


class WrongManifest(BundleError):
    """The manifest is not valid JSON, or a field is missing, unknown, or of the wrong type or value."""


class UnknownFormat(BundleError):
    """The manifest has another format or format version."""


class PathOutside(BundleError):
    """The manifest lists a file that is not inside the folder."""


class MissingFile(BundleError):
    """A file that the manifest lists does not exist."""


class TruncatedFile(BundleError):
    """A file does not have the length that the manifest lists."""


class WrongHash(BundleError):
    """A file's contents do not have the hash that the manifest lists."""


class MissingGraph(BundleError):
    """The manifest lacks a graph that a model with its number of levels requires."""


class UnlistedFile(BundleError):
    """A graph reads weights from a file that the manifest does not list."""


class WrongShape(BundleError):
    """A graph's input or output does not have the shape or type that the manifest requires."""


class BrokenGraph(BundleError):
    """A graph cannot be loaded, although its file has the hash that the manifest lists."""
