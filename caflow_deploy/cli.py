"""The `caflow` command: image, video, page, score, filter, report, calibrate, batch, serve, info, bench, doctor."""

import click

from caflow_deploy import __version__
from caflow_deploy.commands.batch import batch
from caflow_deploy.commands.bench import bench
from caflow_deploy.commands.calibrate import calibrate
from caflow_deploy.commands.doctor import doctor
from caflow_deploy.commands.filter import filter_command
from caflow_deploy.commands.image import image
from caflow_deploy.commands.info import info
from caflow_deploy.commands.page import page
from caflow_deploy.commands.report import report
from caflow_deploy.commands.score import score
from caflow_deploy.commands.serve import serve
from caflow_deploy.commands.video import video


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="caflow-deploy")
def main() -> None:
    """Images from conditional flows, with their likelihoods.

    Exit codes of all commands: 0 all is done; 1 some of it failed, or a check did; 2 wrong use: nothing was done.
    """


for command in (image, video, page, score, filter_command, report, calibrate, batch, serve, info, bench, doctor):
    main.add_command(command)


if __name__ == "__main__":
    main()
