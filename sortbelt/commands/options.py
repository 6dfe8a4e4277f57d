"""What all subcommands share: the data folder, `--json`, and words to the person beside the output."""

import sys

import click

from sortbelt import terminal

data_dir = click.option(
    "--data-dir", metavar="DIR", help="Data folder of `sortbelt up` [default: SORTBELT_DATA_DIR, else the user's own]."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


def tell(sentence: str) -> None:
    """Say something to the person, beside the output."""
    print(terminal.clean(sentence), file=sys.stderr, flush=True)
