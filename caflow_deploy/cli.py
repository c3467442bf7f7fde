"""The `caflow` command and its subcommands."""

import sys
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from caflow_cli.command_error import ERROR_CODE, WRONG_USE, CommandError
from caflow_cli.option_values import in_words_of
from caflow_cli.program import Program
from caflow_cli.standard_streams import print_message
from caflow_cli.stops import ending_when_stopped
from caflow_deploy import __version__
from caflow_deploy.silence import silence
from caflow_runtime.errors import CaflowError
from caflow_runtime.extras import HOW_TO_INSTALL

COMMANDS = {
    "image": "Enlarge, colorize or inpaint images: draw several samples, keep the best.",
    "video": "Enlarge a video file, a camera or a network stream.",
    "page": "Open a web page to try a model with your own images.",
    "score": "Compute how likely an image is, given its condition.",
    "filter": "Accept or reject each pair of a list by its typicality.",
    "report": "Write an HTML report about the verdicts of caflow filter.",
    "calibrate": "Learn from photographs which likelihoods are typical.",
    "serve": "Serve a bundle over HTTP.",
    "info": "Show the contents of a bundle.",
    "bench": "Measure the speed of a bundle on this machine.",
    "doctor": "Check the installation, the backends and a bundle.",
}
"""Names of the commands, in the order of `caflow --help`, with their summaries. They are written here so that
`caflow --help` does not have to import the modules of the commands."""


class LazyGroup(Program, click.Group):
    """Group that imports each command when it is used. Its exit code tells Ctrl-C from SIGTERM."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. If it is stopped or fails, and does not report that itself, report it in one line."""
        with ending_when_stopped("caflow"):
            try:
                return super().invoke(ctx)
            except BrokenPipeError:  # click ends the command without a message
                raise
            except (CaflowError, CommandError, MemoryError, OSError) as error:
                code = ctx.meta.get(ERROR_CODE, WRONG_USE)
                ending = error if isinstance(error, CommandError) else CommandError.of(error, code)
                command = self.get_command(ctx, ctx.invoked_subcommand or "")
                print_message(f"caflow: {in_words_of(command or self, str(ending))}")
                sys.exit(ending.code)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command. None if there is no command of that name."""
        if cmd_name not in COMMANDS:
            return None
        silence()  # before the command imports OpenCV, which reads its variables then
        command: click.Command = import_module(f"caflow_deploy.commands.{cmd_name}").command
        command.epilog = HOW_TO_INSTALL
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names of the commands with their summaries."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin with the incomplete text."""
        names = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


@click.group("caflow", cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="caflow-deploy")
def main() -> None:
    """Draw, score and filter images with conditional normalizing flows.

    Exit codes of all commands: 0 for success; 1 if some of the work or a check failed; 2 for wrong use, before any
    work was done; 130 after Ctrl-C; 143 after SIGTERM. Commands that run until they are stopped (page, serve, and
    video with a live source) then end with 0.
    """


if __name__ == "__main__":
    main()
