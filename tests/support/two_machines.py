"""Two simulated machines that can fail: network namespaces joined by a virtual cable. Requires root and iproute2."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

ADDRESSES = ("10.77.0.1", "10.77.0.2")
INTERFACE = "cable"


def why_none() -> str | None:
    """Return why network namespaces cannot be used here, or None if they can."""
    try:
        name = f"caflow-{os.getpid()}-try"
        subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        return "`ip` is not installed; run apt-get install iproute2"
    except subprocess.CalledProcessError as error:
        return f"network namespaces cannot be created: {error.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


class Machine:
    """One of the two machines: its processes, and its end of the cable."""

    def __init__(self, name: str, address: str, output: Path) -> None:
        self.name = name
        self.address = address
        self.output = output
        self._shells: list[subprocess.Popen[bytes]] = []

    def start(self, command: str, environment: Mapping[str, str]) -> None:
        """Run a shell command on this machine; its output is appended to `output`."""
        with self.output.open("ab") as output:
            shell = subprocess.Popen(
                # If the test is killed, the shell must die, too: its loop would restart torchrun forever.
                self.command(["setpriv", "--pdeathsig", "KILL", "bash", "-c", command]),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._shells.append(shell)

    def command(self, command: Sequence[str]) -> list[str]:
        """Return the command line that runs a command on this machine."""
        return ["ip", "netns", "exec", self.name, *command]

    def works(self) -> bool:
        """Return whether a command that `start` started on this machine still runs."""
        return any(shell.poll() is None for shell in self._shells)

    def processes(self, containing: str) -> list[int]:
        """Return the ids of the processes on this machine whose command line contains a text."""
        found = subprocess.run(["ip", "netns", "pids", self.name], check=True, capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split() if containing in _command_line(int(pid))]

    def lose(self) -> None:
        """Simulate a power failure: the other machine gets no message, and all processes are gone."""
        _ip(f"-n {self.name} link set {INTERFACE} down")
        self.kill_all()

    def boot(self) -> None:
        """Make the machine reachable again, with no process."""
        _ip(f"-n {self.name} link set {INTERFACE} up")

    def end(self) -> None:
        """Kill all processes and delete the network namespace."""
        self.kill_all()
        _ip(f"netns del {self.name}")

    def kill_all(self) -> None:
        """Kill all processes on this machine. The other machine notices, because their connections are closed."""
        for shell in self._shells:
            shell.kill()
            shell.wait()
        self._shells.clear()
        while running := self.processes(""):
            for pid in running:
                kill(pid)
            time.sleep(0.01)


@contextmanager
def two_machines(folder: Path) -> Iterator[list[Machine]]:
    """Run two machines on one network. Their output goes to `folder`, and their processes are killed at the end."""
    machines = [
        Machine(f"caflow-{os.getpid()}-{k}", address, folder / f"machine-{k}.log")
        for k, address in enumerate(ADDRESSES)
    ]
    with ExitStack() as stack:
        for machine in machines:
            _ip(f"netns add {machine.name}")
            stack.callback(machine.end)
        first, second = (machine.name for machine in machines)
        _ip(f"link add {INTERFACE} netns {first} type veth peer name {INTERFACE} netns {second}")
        for machine in machines:
            _ip(f"-n {machine.name} addr add {machine.address}/24 dev {INTERFACE}")
            _ip(f"-n {machine.name} link set lo up")
            machine.boot()
        yield machines


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *shlex.split(arguments)], check=True, capture_output=True)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # the process has ended
        return ""


def kill(pid: int) -> None:
    """Kill a process, if it exists."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
