"""Failures of requests, and the HTTP and gRPC status that each of them is sent with."""

from caflow_runtime.errors import CaflowError, InputError

MAX_TEXT = 1000
"""Maximum length of an error, in characters. Longer errors do not fit into the header in which gRPC sends them."""


class UnknownModel(InputError):
    """The server has no model, or no address, of this name."""


class TooLarge(InputError):
    """A request is larger than any request that can be answered."""


class TooSlow(InputError):
    """A request did not arrive in time."""


class Busy(CaflowError):
    """The server has too many requests already."""


class Failure(CaflowError):
    """Reason why a request has no answer, in the form in which it is sent to a client or to another process."""

    def __init__(self, http: int, grpc: str, text: str) -> None:
        super().__init__(text)
        self.args = (http, grpc, text)  # pickle calls the constructor with these arguments
        self.http, self.grpc, self.text = http, grpc, text


STATUS: tuple[tuple[type[BaseException], int, str], ...] = (
    (UnknownModel, 404, "NOT_FOUND"),
    (TooLarge, 413, "INVALID_ARGUMENT"),
    (TooSlow, 408, "DEADLINE_EXCEEDED"),
    (Busy, 503, "RESOURCE_EXHAUSTED"),
    (InputError, 400, "INVALID_ARGUMENT"),
    (CaflowError, 422, "FAILED_PRECONDITION"),
    (TimeoutError, 504, "DEADLINE_EXCEEDED"),
    (MemoryError, 503, "RESOURCE_EXHAUSTED"),
)
"""HTTP and gRPC status of each type of error. The first type that matches counts."""


def status(error: BaseException) -> tuple[int, str]:
    """Return the HTTP and gRPC status of an error."""
    return next(((http, grpc) for kind, http, grpc in STATUS if isinstance(error, kind)), (500, "INTERNAL"))


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
    return error if isinstance(error, Failure) else Failure(*status(error), text(error))
