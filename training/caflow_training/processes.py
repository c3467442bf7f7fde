"""Processes that train together. torchrun starts and restarts them, on one machine or on several."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from caflow_training.photographs import DataError

# Longest time for which a process waits for another. A validation must be shorter: process 0 validates while all others
# wait.
PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True)
class Processes:
    """Position of this process among the processes that train together.

    After a restart by torchrun, a machine may have other ranks.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and prints the messages."""
        return self.rank == 0

    def rows(self, batch: int) -> range:
        """Return the rows of a global batch that this process computes."""
        share = batch // self.count
        return range(self.rank * share, (self.rank + 1) * share)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of a float tensor over all processes. `values` is overwritten."""
        if self.count > 1:
            dist.all_reduce(values)
            values /= self.count
        return values

    def agree(self, number: int) -> bool:
        """Return whether all processes pass the same number, an int64. All processes must call this method."""
        if self.count == 1:
            return True
        ends = torch.tensor([number, -number], device=self.device)
        dist.all_reduce(ends, dist.ReduceOp.MAX)
        largest, negated_smallest = ends.tolist()
        return bool(largest == -negated_smallest)

    def wait_for_all(self) -> None:
        """Wait until all processes have called this method."""
        self.agree(0)


def join_processes(batch: int, stack: ExitStack, say: Callable[[str], None]) -> Processes:
    """Join the processes that torchrun has started, and return this process's position among them.

    Without torchrun there is one process. The connection is closed together with `stack`.

    Raises:
        DataError: if `batch` is no multiple of the number of processes.
    """
    has_gpu = torch.cuda.is_available()
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes(0, 1, torch.device("cuda" if has_gpu else "cpu"))
    if batch % count:
        raise DataError(f"batch must be a multiple of {count}, the number of processes; got {batch}")
    if os.environ["RANK"] == "0" and may_hang_at_restart(os.environ):
        say(
            "torchrun may hang when it restarts processes: "
            "set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment, on every machine"
        )
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if has_gpu else torch.device("cpu")
    dist.init_process_group("nccl" if has_gpu else "gloo", timeout=PATIENCE)
    stack.callback(dist.destroy_process_group)
    return Processes(dist.get_rank(), count, device)


def may_hang_at_restart(environment: Mapping[str, str]) -> bool:
    """Return whether the torchrun that set this environment restarts processes and reuses its store afterwards.

    Restarted processes may then read the addresses of dead processes from the store and hang (pytorch/pytorch#135712).
    Only a variable in torchrun's own environment prevents this, so this process can only warn.
    """
    restarts = int(environment.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    return restarts > 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
