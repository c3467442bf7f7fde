"""Listening sockets of commands, as `ss` reports them: all of them are on the loopback address."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from commands import command
from many import crops
from servers import Server, caflow_server
from visit import Served

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(shutil.which("ss") is None, reason="requires `ss`: apt-get install iproute2"),
]

LOOPBACK = re.compile(r"(127\.0\.0\.1|\[::1\]|\[::ffff:127\.0\.0\.1\]):\d+")


def listening(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> dict[str, str]:
    """Return the addresses on which a process or a descendant listens, each with its line of `ss`."""
    own = Server(process, {}, scraped=0, worker="").processes().keys()  # type: ignore[arg-type]
    listed = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    return {
        line.split()[3]: line
        for line in listed.splitlines()
        if own & {int(pid) for pid in re.findall(r"pid=(\d+)", line)}
    }


def listening_while_it_runs(
    arguments: list[object], port: int | None, environment: Mapping[str, str]
) -> dict[str, str]:
    """Run a command and return all addresses seen meanwhile. Kill the command once it listens on `port`."""
    process = subprocess.Popen(command(*arguments), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    seen: dict[str, str] = {}
    try:
        while process.poll() is None and (port is None or f"127.0.0.1:{port}" not in seen):
            seen |= listening(process)
    finally:
        process.kill()
        _, errors = process.communicate()
    print(errors.decode())
    return seen


def check(seen: Mapping[str, str]) -> None:
    assert seen
    assert not [line for address, line in seen.items() if not LOOPBACK.fullmatch(address)]


def test_caflow_serve_listens_only_on_the_loopback_address() -> None:
    with caflow_server(Path("x4-photo"), 2) as server:
        seen = listening(server.process)
        check(seen)
        ports = {int(address.rpartition(":")[2]) for address in seen}
        assert ports == {*server.ports.values(), server.scraped}


def test_workers_on_the_same_machine_listen_on_no_port(tmp_path: Path) -> None:
    crops(tmp_path / "in", 30)
    arguments: list[object] = ["image", tmp_path / "in", "-o", tmp_path / "out", "--workers", 2]
    assert not listening_while_it_runs(arguments, None, os.environ)
    assert len(list((tmp_path / "out").glob("*.png"))) == 30


def test_caflow_page_listens_only_on_the_loopback_address(tmp_path: Path) -> None:
    served = Served(Path("x4-photo"), tmp_path)
    try:
        seen = listening(served.process)
        check(seen)
        assert len(seen) == 1
    finally:
        served.process.kill()
        served.process.communicate()
