"""Makes docs/commands.md from the commands themselves: `python docs/make_commands.py`; a test tells when it is due."""

from collections.abc import Iterator
from pathlib import Path

import click

from sortbelt import command

PAGE = Path(__file__).with_name("commands.md")
HEAD = """# The commands

Made by `python docs/make_commands.py` from what each command says of itself with `--help`.

Exit codes: 0 all well, 1 some images failed, 2 wrong usage (or key, or folder), 3 no server answers, 130 stopped by
ctrl-C. Tables come only on a terminal, and tab-separated lines elsewhere; progress and words to people go to standard
error. `NO_COLOR` is heeded. The tab key learns the commands by `sortbelt completion bash >> ~/.bashrc`
(`zsh >> ~/.zshrc`, `fish > ~/.config/fish/completions/sortbelt.fish`).

| Variable | What it says |
|---|---|
| `SORTBELT_URL` | the server to talk to; else what `sortbelt up` started on this machine |
| `SORTBELT_KEY`, `SORTBELT_KEY_FILE` | the key, or the file that holds it |
| `SORTBELT_DATA_DIR` | the data folder of `sortbelt up` |
| `XDG_STATE_HOME` | below it, or below `~/.local/state`, `enqueue` and `sort` remember what they sent |
"""


NAMES = ["-h", "--help"]


def walk(found: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words by which it is called."""
    yield path, found
    if isinstance(found, click.Group):
        context = click.Context(found)
        for name in found.list_commands(context):
            below = found.get_command(context, name)
            if below is not None:
                yield from walk(below, (*path, name))


def page() -> str:
    """The whole document."""
    parts = [HEAD]
    for path, found in walk(command.cli, ("sortbelt",)):
        context = click.Context(found, info_name=" ".join(path), help_option_names=NAMES, terminal_width=110)
        parts.append(f"## `{' '.join(path)}`\n\n```text\n{found.get_help(context)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
