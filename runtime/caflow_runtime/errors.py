"""What the runtime raises on purpose, each saying what was wanted, what came, and what to do."""


class CaflowError(Exception):
    """Any of them."""


class InputError(CaflowError, ValueError):
    """An argument is not what it should be."""


class UnreadableImage(CaflowError, ValueError):
    """A file is not an image that can be read whole."""


class BackendError(CaflowError, RuntimeError):
    """A backend cannot run, here or with what it was given."""


class NotFinite(CaflowError, ArithmeticError):
    """A sample or a likelihood is not finite, so there is none to give."""
