"""How well are holes filled and photographs coloured, compared with other methods?"""

import click
from colorization import judge_colorization
from inpainting import judge_inpainting


@click.group()
def main() -> None:
    """Measure how well photographs are completed."""


main.add_command(judge_inpainting)
main.add_command(judge_colorization)

if __name__ == "__main__":
    main()
