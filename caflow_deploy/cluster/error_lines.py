"""One line of an error of Ray, whose texts have many lines, such as tracebacks of other processes."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or the error's type if there is no text."""
    return _lines(error)[0]


def last_line(error: Exception) -> str:
    """Return the last line of an error's text, which is the cause if the lines before it are a traceback.

    Return the error's type if there is no text.
    """
    return _lines(error)[-1]


def _lines(error: Exception) -> list[str]:
    return str(error).strip().splitlines() or [type(error).__name__]
