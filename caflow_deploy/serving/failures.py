"""Failures of requests, and the HTTP status that each of them is sent with."""

from caflow_runtime import errors
from caflow_runtime.errors import CaflowError, InputError, TooLittleMemory, UnreadableImage

MAX_TEXT = 1000
"""Maximum length of an error, in characters."""


class UnknownModel(InputError):
    """The server has no model, or no address, of this name."""


class WrongMethod(InputError):
    """The address takes requests of another HTTP method."""


class TooLarge(InputError):
    """A request is larger than any request that can be answered."""


class TooSlow(InputError):
    """A request did not arrive in time."""


class Busy(CaflowError):
    """The server has too many requests already."""


class Failure(CaflowError):
    """Reason why a request has no answer, in the form in which it is sent to a client or to another process."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.args = (status, text)  # pickle calls the constructor with these arguments
        self.status, self.text = status, text


STATUS: dict[type[BaseException], int] = {
    UnknownModel: 404,
    WrongMethod: 405,
    TooLarge: 413,
    TooSlow: 408,
    Busy: 503,
    InputError: 400,
    errors.TooLarge: 413,
    UnreadableImage: 400,
    TooLittleMemory: 413,
    CaflowError: 422,
    TimeoutError: 504,
    MemoryError: 503,
}
"""HTTP status of each type of error. The first type that matches counts."""


def status(error: BaseException) -> int:
    """Return the HTTP status of an error."""
    return next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)


def text(error: BaseException) -> str:
    """Return the text of an error for clients, shortened to `MAX_TEXT` characters, as it may quote the request."""
    if isinstance(error, TimeoutError):
        return (
            "the answer was not ready within the server's --deadline, or within the request's own timeout; ask for "
            "fewer samples, or give a longer --deadline or timeout"
        )
    if not isinstance(error, CaflowError | MemoryError):
        return "internal server error; the server's log has the reason"  # which may reveal files and processes
    whole = str(error) or type(error).__name__
    return whole if len(whole) <= MAX_TEXT else f"{whole[: MAX_TEXT - 1]}…"


def failure_of(error: BaseException) -> Failure:
    """Return an error in the form that is sent to clients."""
    return error if isinstance(error, Failure) else Failure(status(error), text(error))
