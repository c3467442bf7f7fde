"""The processes that train together: torchrun starts them, on one machine or on several, and starts them again."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from caflow_training.data import DataError

# How long a process waits for another: longer than a validation, which the leading one does while the others wait.
PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True)
class Processes:
    """This process among those that train together. Which machine holds which rank may change at a restart."""

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes and talks."""
        return self.rank == 0

    def rows(self, batch: int) -> range:
        """This process's rows of a global batch."""
        share = batch // self.count
        return range(self.rank * share, (self.rank + 1) * share)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a float tensor over all processes; `values` is overwritten."""
        if self.count > 1:
            dist.all_reduce(values)
            values /= self.count
        return values

    def agree(self, number: int) -> bool:
        """Whether all processes give the same number, an int64."""
        if self.count == 1:
            return True
        ends = torch.tensor([number, -number], device=self.device)
        dist.all_reduce(ends, dist.ReduceOp.MAX)
        largest, negated_smallest = ends.tolist()
        return bool(largest == -negated_smallest)

    def wait_for_all(self) -> None:
        """Return when every process has come here."""
        self.agree(0)


def join_processes(batch: int, stack: ExitStack, say: Callable[[str], None]) -> Processes:
    """This process, joined with the others if torchrun started it, until `stack` is closed.

    Raises:
        DataError: if a batch of `batch` crops cannot be spread over the processes.
    """
    has_gpu = torch.cuda.is_available()
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes(0, 1, torch.device("cuda" if has_gpu else "cpu"))
    if batch % count:
        raise DataError(f"batch = {batch} cannot be spread over {count} processes: wanted a multiple")
    if os.environ["RANK"] == "0" and may_hang_at_restart(os.environ):
        say(
            "torchrun may hang when it starts processes again: "
            "set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment, on every machine"
        )
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if has_gpu else torch.device("cpu")
    dist.init_process_group("nccl" if has_gpu else "gloo", timeout=PATIENCE)
    stack.callback(dist.destroy_process_group)
    return Processes(dist.get_rank(), count, device)


def may_hang_at_restart(environment: Mapping[str, str]) -> bool:
    """Whether the torchrun that set this environment starts processes again, but keeps one store for all their lives.

    They may then read the addresses of dead ones there (pytorch/pytorch#135712). Nothing can be done here any more: it
    is torchrun's own environment that decides.
    """
    restarts = int(environment.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    return restarts > 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
