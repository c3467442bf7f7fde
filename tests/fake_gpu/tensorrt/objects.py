"""What all objects of TensorRT have: whom they tell of errors, memory of their own, and an end."""

from typing import Any

from fake_gpu.calls import CALLS, LOCK, misuse
from fake_gpu.memory import MEMORY, OutOfMemory
from fake_gpu.state import OBJECTS

INTERNAL, OUT_OF_MEMORY = 1, 3


class IErrorRecorder:
    """Base of the recorders of others."""

    def report_error(self, code: int, text: str) -> bool:
        raise NotImplementedError


class Logger:
    """Says nothing."""

    INTERNAL_ERROR = 0

    def __init__(self, min_severity: int) -> None:
        self.min_severity = min_severity


class Object:
    """Made by another one, which it keeps alive as TensorRT's bindings do, and whose recorder it inherits."""

    has_recorder = True
    """Whether objects of this kind report errors, and so inherit what they report to."""

    def __init__(self, maker: "Object | None", size: int = 0) -> None:
        """`size`: bytes of the GPU that it takes for itself.

        Raises:
            OutOfMemory
        """
        self.error_recorder: IErrorRecorder | None = None
        self._size, self._inherited, self._maker = 0, None, maker
        self._generation = MEMORY.take_for_engines(size)
        self._size = size
        if maker is not None and self.has_recorder:
            self.error_recorder = self._inherited = maker.error_recorder
        OBJECTS.add(self)

    def fails(self) -> bool:
        """Count a call; whether it has to fail, which is then reported."""
        if CALLS.must_fail():
            self.report(INTERNAL, "a call of the fake TensorRT failed, as it was told to")
            return True
        return False

    def make(self, kind: Any, *arguments: Any) -> Any:
        """An object that this one makes; None if it fails."""
        with LOCK:
            if self.fails():
                return None
            try:
                return kind(self, *arguments)
            except OutOfMemory:
                self.report(OUT_OF_MEMORY, "Requested amount of GPU memory could not be allocated: OutOfMemory")
                return None

    def report(self, code: int, text: str) -> None:
        if self.error_recorder is not None:
            self.error_recorder.report_error(code, text)

    def __del__(self) -> None:
        with LOCK:
            if self._size:
                MEMORY.free_of_engines(self._size, self._generation)
            if self._inherited is not None and self.error_recorder is self._inherited:
                misuse(f"a {type(self).__name__} is freed with the recorder of its maker, which ends the process")
