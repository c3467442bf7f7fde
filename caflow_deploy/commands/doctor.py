"""`caflow doctor`: check what works on this machine, and print what to do about the rest."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.text import Text

from caflow_cli.command_error import FAILED
from caflow_cli.console import command_console
from caflow_deploy.commands.pipeline_options import bundle_argument, json_option
from caflow_deploy.health.doctor import check_bundle, check_environment
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.file_io.paths import as_text


@click.command("doctor")
@bundle_argument
@json_option
def command(bundle: Path) -> None:
    """Check the installation, the backends, and whether BUNDLE gives correct results here.

    The command also prints what to do about everything that is missing or fails. The exit code is 1 if a check failed.
    """
    console = command_console()
    console.require_stdout()
    checks = list(check_environment())
    with console.progress_bar() as bar:
        bar.add_task("checking the bundle", total=None)
        checks += check_bundle(find_bundle(bundle))
    if console.as_json:
        for check in checks:
            console.result(json.dumps({key: as_text(value) for key, value in asdict(check).items()}))
    else:
        marks = {"ok": Text("ok", "green"), "absent": Text("–"), "failed": Text("FAILED", "red")}
        console.table(["", "", "found"], [[marks[check.state], check.name, check.found] for check in checks])
        for check in checks:
            if check.remedy:
                console.result(f"{check.name}: {check.remedy}")
    if any(check.state == "failed" for check in checks):
        sys.exit(FAILED)
