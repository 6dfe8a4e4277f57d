"""Write docs/commands.md from the commands' help texts: `python docs/make_commands.py`; a test compares them."""

from collections.abc import Iterator
from pathlib import Path

import click

from sortbelt.cli import main

PAGE = Path(__file__).with_name("commands.md")
HEAD = """# The commands

Written by `python docs/make_commands.py` from the help texts of the commands.

Exit codes: 0 success, 1 some images failed, 2 wrong usage (or key, or folder), 3 no server responds, or it cannot
process the request now (429, 5xx), 130 stopped by ctrl-C. Tables are printed on a terminal only (one field per line if
it is narrow), and tab-separated lines elsewhere; progress and messages go to standard error. `NO_COLOR` turns colors
off. Tab completion:
`sortbelt completion bash >> ~/.bashrc` (`zsh >> ~/.zshrc`, `fish > ~/.config/fish/completions/sortbelt.fish`).

| Variable | Meaning |
|---|---|
| `SORTBELT_URL` | URL of the server; by default that of `sortbelt up` on this machine |
| `SORTBELT_KEY`, `SORTBELT_KEY_FILE` | API key, or the file with it |
| `SORTBELT_DATA_DIR` | data folder of `sortbelt up` |
| `XDG_DATA_HOME` | on Linux, parent of the default data folder; by default `~/.local/share` |
| `XDG_STATE_HOME` | on Linux, parent of the manifests of `enqueue` and `sort`; by default `~/.local/state` |
"""

HELP_OPTIONS = ["-h", "--help"]


def walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield a command and its subcommands, each with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            if subcommand is not None:
                yield from walk(subcommand, (*path, name))


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for path, command in walk(main.cli, ("sortbelt",)):
        title = " ".join(path)
        context = click.Context(command, info_name=title, help_option_names=HELP_OPTIONS, terminal_width=110)
        parts.append(f"## `{title}`\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
