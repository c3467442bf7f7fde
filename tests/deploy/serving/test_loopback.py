"""Listening sockets of commands, as `ss` reports them: all of them are on the loopback address."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from commands import command, started
from many import crops, processes_of
from servers import caflow_server
from visit import TIMEOUT_S, Served

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(shutil.which("ss") is None, reason="requires `ss`: apt-get install iproute2"),
]

LOOPBACK = re.compile(r"(127\.0\.0\.1|\[::1\]|\[::ffff:127\.0\.0\.1\]):\d+")


def listening(process: subprocess.Popen[Any]) -> list[str]:
    """Return the addresses on which a process or a descendant listens."""
    own = processes_of(process.pid).keys()
    listed = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    return [
        line.split()[3] for line in listed.splitlines() if own & {int(pid) for pid in re.findall(r"pid=(\d+)", line)}
    ]


def test_caflow_serve_listens_only_on_the_loopback_address() -> None:
    with caflow_server(Path("x4-photo"), 2) as server:
        seen = listening(server.process)
    assert all(map(LOOPBACK.fullmatch, seen))
    assert {int(address.rpartition(":")[2]) for address in seen} == {server.port, server.scraped}


def test_workers_on_the_same_machine_listen_on_no_port(tmp_path: Path) -> None:
    crops(tmp_path / "in", 30)
    with started(command("image", tmp_path / "in", "-o", tmp_path / "out", "--workers", 2)) as process:
        while process.poll() is None:
            assert not listening(process)
    assert len(list((tmp_path / "out").glob("*.png"))) == 30


def test_caflow_page_listens_only_on_the_loopback_address(tmp_path: Path) -> None:
    served = Served(Path("x4-photo"), tmp_path)
    try:
        (address,) = listening(served.process)
        assert LOOPBACK.fullmatch(address)
    finally:
        served.process.kill()
        served.process.communicate(timeout=TIMEOUT_S)
