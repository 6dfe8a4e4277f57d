"""`sortbelt completion`: what makes the shell's tab key know the commands and their options."""

import click
from click import shell_completion

from sortbelt import command

FILES = {"bash": "~/.bashrc", "zsh": "~/.zshrc", "fish": "~/.config/fish/completions/sortbelt.fish"}


@click.command()
@click.argument("shell", type=click.Choice(list(FILES)))
def completion(shell: str) -> None:
    """Print what makes the tab key complete `sortbelt` commands.

    \b
    Examples:
      sortbelt completion bash >> ~/.bashrc
      sortbelt completion zsh >> ~/.zshrc
      sortbelt completion fish > ~/.config/fish/completions/sortbelt.fish
    """  # noqa: D301 - click wants the \b as it is
    kind = shell_completion.get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has all three
    print(kind(command.cli, {}, "sortbelt", "_SORTBELT_COMPLETE").source())
