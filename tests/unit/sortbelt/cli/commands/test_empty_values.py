"""Empty options and arguments, such as shell variables that are not set."""

import contextlib

import click
import pytest

from sortbelt.cli import main

MAY_BE_EMPTY = {("rename", "name"), ("up", "command")}  # no name; an argument of the user's own command


def leaves(command=main.cli, path=()):
    """Yield every command below a group, with its path."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        yield from leaves(command.get_command(context, name), (*path, name))


COMMANDS = [pytest.param(path, command, id=" ".join(path)) for path, command in leaves()]


def valid_value(parameter, folder):
    """Return a value that a parameter accepts: a folder, a file, a name or a version."""
    (folder / "file").touch()
    for value in (str(folder), str(folder / "file"), "name", "name@1"):
        with contextlib.suppress(click.BadParameter):
            parameter.type.convert(value, parameter, None)
            return value
    raise AssertionError(f"no value fits {parameter}")


def words(parameter, value):
    """Return a parameter with its value as on the command line."""
    return [value] if isinstance(parameter, click.Argument) else [parameter.opts[0], value]


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_an_empty_value_is_a_usage_error(run_cli, tmp_path, path, command):
    """`images delete --name "$NAME"` would otherwise match every image, and `sort --into "$OUT"` fill this folder."""
    for parameter in command.params:
        if getattr(parameter, "is_flag", False) or (path[-1], parameter.name) in MAY_BE_EMPTY:
            continue
        given = [one for one in command.params if one.required or one is parameter]
        values = ["" if one is parameter else valid_value(one, tmp_path) for one in given]
        run = run_cli(*path, *(word for one, value in zip(given, values, strict=True) for word in words(one, value)))

        assert run.code == 2, parameter.name
        name = parameter.make_metavar(click.Context(command)).strip("[]…")
        assert parameter.opts[0] in run.err or name in run.err


def test_the_message_names_the_option_and_says_what_to_do(run_cli):
    run = run_cli("images", "delete", "--name", "", "--yes")

    assert run.code == 2
    assert "Invalid value for '--name': it is empty: give a value, or leave it out." in run.err


@pytest.mark.parametrize("option", ["--name", "--version"])
@pytest.mark.parametrize("value", ["My Lunch", "-x", "Lunch", "a/b", "a" * 101])
def test_a_name_of_a_model_is_checked_before_its_training(run_cli, tmp_path, option, value):
    """The message says which characters it may have, not a pattern."""
    run = run_cli("train", tmp_path, "--name", "lunch", option, value)

    assert run.code == 2
    assert f"Invalid value for '{option}': {value!r} has other characters than a-z" in run.err
