"""Exceptions that the runtime raises. Their messages state what is wrong and what to do."""

import errno
from pathlib import Path

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
"""Error numbers of a full disk and of a used quota."""


class CaflowError(Exception):
    """Base class of all exceptions that the runtime raises."""

    def __init__(self, what: str, remedy: str = "") -> None:
        """Say what is wrong, and what to do about it.

        Arguments:
            what: what is wrong, and why.
            remedy: what to do; given separately if programs report it separately.
        """
        super().__init__(what, remedy)
        self.what = what
        """What is wrong, and why."""
        self.remedy = remedy
        """What to do; empty if `what` says it."""

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}" if self.remedy else self.what


class InputError(CaflowError, ValueError):
    """An argument is invalid."""


class UnreadableImage(CaflowError, ValueError):
    """A file is not an image, or the image cannot be read completely."""

    def __init__(self, path: Path, why: str) -> None:
        """Name the file, and say what is wrong.

        Arguments:
            path: the file; the message begins with it.
            why: why it cannot be read, and what to do.
        """
        super().__init__(f"{path}: {why}")
        self.args = (path, why)  # pickle makes the exception of these again
        self.path = path
        """The file."""
        self.why = why
        """Why it cannot be read, and what to do."""


class TooLarge(UnreadableImage):
    """An image has more pixels or bytes than allowed."""


class BackendError(CaflowError, RuntimeError):
    """A backend cannot run on this machine or with these inputs."""


class NotFinite(CaflowError, ArithmeticError):
    """A sample or a likelihood is not finite, so there is no result."""


class TooLittleMemory(CaflowError, MemoryError):
    """More memory is required than is available. Raised before anything is drawn."""


def format_error(error: Exception) -> str:
    """Return the message of an error. Errors of the operating system are told in words, without their number."""
    if isinstance(error, BrokenPipeError):
        return "the reader of standard output has closed it"
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
