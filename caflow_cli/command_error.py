"""The error that ends a command with a message and an exit code."""

from caflow_runtime.errors import NO_SPACE, CaflowError, format_error

FAILED, WRONG_USE = 1, 2
"""Exit codes: some of the work failed; wrong use, before any work was done."""
ERROR_CODE = f"{__name__}.ERROR_CODE"
"""Key of `click.Context.meta`: exit code of other errors than `CommandError`. Without it, the code is `WRONG_USE`."""


class CommandError(Exception):
    """Error that ends a command. `caflow` prints it after all blocks of the command have ended, so below no bar."""

    def __init__(self, message: str, code: int = WRONG_USE) -> None:
        super().__init__(message)
        self.code = code

    @classmethod
    def of(cls, error: Exception, code: int = WRONG_USE) -> "CommandError":
        """Return the error that ends a command because of another error. The exit code is 1 if memory ran out."""
        if isinstance(error, MemoryError) and not isinstance(error, CaflowError):
            return cls(f"memory ran out: {error}", FAILED)
        is_full = isinstance(error, OSError) and error.errno in NO_SPACE
        return cls(format_error(error) + ": free space, then run the same command again" * is_full, code)
