"""Options about the result files of `caflow image`."""

import click

from caflow_deploy.commands.option_values import options
from caflow_runtime.jobs.result_naming import FORMATS, SOURCE

MAX_SUFFIX_CHARACTERS = 64


def _suffix(context: click.Context, parameter: click.Parameter, text: str) -> str:
    if len(text) > MAX_SUFFIX_CHARACTERS or not text.isprintable() or {"/", "\\"} & set(text):
        raise click.BadParameter(
            f"must be at most {MAX_SUFFIX_CHARACTERS} printable characters, such as -x4, without / and \\; "
            f"got {text!r}",
            context,
            parameter,
        )
    return text


result_options = options(
    click.option(
        "--format",
        type=click.Choice([SOURCE, *FORMATS]),
        default=SOURCE,
        show_default=True,
        help="In a folder: format of the results; source is the format of each input, or PNG if that format can "
        "only be read. With -o -, source is PNG.",
    ),
    click.option(
        "--quality",
        type=click.IntRange(1, 100),
        help="Quality of JPEG and WebP files; higher values give better and larger files. 100 makes WebP lossless. "
        " [default: 95]",
    ),
    click.option(
        "--suffix",
        default="",
        callback=_suffix,
        metavar="TEXT",
        help="In a folder: text to insert before the extension of each result's name, such as -x4.",
    ),
    click.option(
        "--no-metadata",
        is_flag=True,
        help="Do not copy EXIF, XMP, IPTC and the resolution. The colour profile is always copied, because colours "
        "would change without it. A result that cannot have the colour space of its source gives a warning.",
    ),
)
"""Options about the names, formats and contents of result files."""
