"""Imitates cuda.bindings.driver: the calls for graphs, and for the memory that the pool keeps."""

from enum import IntEnum
from typing import Any

from fake_gpu.calls import CALLS, LOCK
from fake_gpu.graphs import RECORDINGS
from fake_gpu.memory import MEMORY
from fake_gpu.queues import QUEUES


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_UNKNOWN = 999


class CUstreamCaptureMode(IntEnum):
    CU_STREAM_CAPTURE_MODE_RELAXED = 2


_FAILURE, _SUCCESS = CUresult.CUDA_ERROR_UNKNOWN, CUresult.CUDA_SUCCESS


def _fails() -> bool:
    CALLS.check_current()
    return CALLS.must_fail()


def cuMemPoolTrimTo(pool: Any, minBytesToKeep: int) -> tuple[CUresult]:
    with LOCK:
        if _fails():
            return (_FAILURE,)
        MEMORY.trim(minBytesToKeep)
        return (_SUCCESS,)


def cuStreamBeginCapture(hStream: Any, mode: CUstreamCaptureMode) -> tuple[CUresult]:
    with LOCK:
        if _fails():
            return (_FAILURE,)
        RECORDINGS.begin(QUEUES.find(int(hStream)))
        return (_SUCCESS,)


def cuStreamEndCapture(hStream: Any) -> tuple[CUresult, int]:
    """The capture ends even if the call fails; then there is no graph."""
    with LOCK:
        graph = RECORDINGS.end(QUEUES.find(int(hStream)))
        if _fails():
            RECORDINGS.destroy(graph, RECORDINGS.graphs)
            return _FAILURE, 0
        return _SUCCESS, graph


def cuGraphInstantiate(hGraph: Any, flags: int) -> tuple[CUresult, int]:
    with LOCK:
        return (_FAILURE, 0) if _fails() else (_SUCCESS, RECORDINGS.instantiate(int(hGraph)))


def cuGraphLaunch(hGraphExec: Any, hStream: Any) -> tuple[CUresult]:
    with LOCK:
        if _fails():
            return (_FAILURE,)
        RECORDINGS.launch(int(hGraphExec), QUEUES.find(int(hStream)))
        return (_SUCCESS,)


def cuGraphExecDestroy(hGraphExec: Any) -> tuple[CUresult]:
    """It is destroyed even if the call fails, which then tells of an earlier error."""
    with LOCK:
        RECORDINGS.destroy(int(hGraphExec), RECORDINGS.executables)
        return (_FAILURE,) if _fails() else (_SUCCESS,)


def cuGraphDestroy(hGraph: Any) -> tuple[CUresult]:
    with LOCK:
        RECORDINGS.destroy(int(hGraph), RECORDINGS.graphs)
        return (_FAILURE,) if _fails() else (_SUCCESS,)
