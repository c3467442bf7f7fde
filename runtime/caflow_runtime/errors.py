"""What the runtime raises on purpose, each saying what was wanted, what came, and what to do."""


class CaflowError(Exception):
    """Any of them."""

    def __init__(self, what: str, remedy: str = "") -> None:
        """
        Arguments:
            what: was wanted, and what came.
            remedy: what to do, where that is to be told apart from the rest.
        """
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}" if self.remedy else self.what


class InputError(CaflowError, ValueError):
    """An argument is not what it should be."""


class UnreadableImage(CaflowError, ValueError):
    """A file is not an image that can be read whole."""


class BackendError(CaflowError, RuntimeError):
    """A backend cannot run, here or with what it was given."""


class NotFinite(CaflowError, ArithmeticError):
    """A sample or a likelihood is not finite, so there is none to give."""
