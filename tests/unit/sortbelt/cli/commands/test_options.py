"""Options that several commands share."""

import click
import click.testing
import pytest

from sortbelt.cli.commands import _options

URL = "postgresql+psycopg://me:secret@db/sortbelt"


@pytest.fixture
def run():
    """Return a function that runs a command with the options of the database; it returns exit code and output."""

    @click.command()
    @_options.database_url_option
    def command(database_url):
        click.echo(database_url)

    def invoke(*arguments):
        result = click.testing.CliRunner().invoke(command, [str(argument) for argument in arguments])
        return result.exit_code, result.output.strip()

    return invoke


def test_the_url_of_the_database_may_come_from_a_file(run, tmp_path):
    """Row 13: so that its password is not an argument, which every user of the machine can read."""
    (tmp_path / "url").write_text(f"{URL}\n")
    assert run("--database-url-file", tmp_path / "url") == (0, URL)
    assert run("--database-url", URL) == (0, URL)
    assert run() == (0, "")


@pytest.mark.parametrize("order", [1, -1])
def test_two_urls_and_unreadable_files_are_usage_errors(run, tmp_path, order):
    """Exit code 2, with what to do; the order of the options does not matter."""
    (tmp_path / "url").write_text(URL)
    code, output = run(
        *[
            word
            for pair in [("--database-url-file", tmp_path / "url"), ("--database-url", "x")][::order]
            for word in pair
        ]
    )
    assert (code, "not both" in output) == (2, True)
    code, output = run("--database-url-file", tmp_path / "none")
    assert (code, "correct --database-url-file" in output) == (2, True)
    assert "secret" not in output
