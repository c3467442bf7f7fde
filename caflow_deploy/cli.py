"""The `caflow` command: image, video, page, score, filter, report, calibrate, batch, serve, info, bench, doctor."""

import sys
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from caflow_deploy import __version__
from caflow_deploy.silence import silence
from caflow_deploy.stops import exit_code, heed_sigterm

COMMANDS = {
    "image": "Make images larger, coloured or whole: the best of several samples of each.",
    "video": "Make a larger video of a file, a camera or a stream.",
    "page": "Serve a page to try a model with your own images.",
    "score": "Say how likely an image is, given its condition.",
    "filter": "Judge a list of pairs, and say which to keep.",
    "report": "Show the verdicts of filter as a page.",
    "calibrate": "Learn from photographs what is typical.",
    "batch": "Deprecated: image, filter and video have --workers and --ray.",
    "serve": "Answer requests over HTTP and gRPC.",
    "info": "Say what a bundle holds.",
    "bench": "Measure how fast a bundle is here.",
    "doctor": "Check the installation, its backends and a bundle.",
}
"""Names, in order, and what `caflow --help` says of each: the modules are not imported for that."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used, and which says by its exit code what stopped them."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; one that is stopped and does not say so itself ends here."""
        heed_sigterm()
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            click.echo("caflow: stopped", err=True)
            sys.exit(exit_code(stop))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        silence()  # before the command imports OpenCV
        command: click.Command = import_module(f"caflow_deploy.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names and what they do."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names that begin so, and options."""
        names = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="caflow-deploy")
def main() -> None:
    """Images from conditional flows, with their likelihoods.

    Exit codes of all commands: 0 all is done; 1 some of it failed, or a check did; 2 wrong use: nothing was done;
    130 stopped by Ctrl-C; 143 by SIGTERM. What runs until it is stopped (page, serve, a live video) then ends with 0.
    """


if __name__ == "__main__":
    main()
