"""Exceptions that the runtime raises. Their messages state what is wrong and what to do."""

from pathlib import Path


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


class BackendError(CaflowError, RuntimeError):
    """A backend cannot run on this machine or with these inputs."""


class NotFinite(CaflowError, ArithmeticError):
    """A sample or a likelihood is not finite, so there is no result."""
