"""`sortbelt completion`: scripts for the shell's tab completion."""

import click
from click import shell_completion

from sortbelt.cli import main

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a script that completes `sortbelt` commands with the tab key.

    \b
    Examples:
      sortbelt completion bash >> ~/.bashrc
      sortbelt completion zsh >> ~/.zshrc
      sortbelt completion fish > ~/.config/fish/completions/sortbelt.fish
    """
    completion_class = shell_completion.get_completion_class(shell)
    assert completion_class is not None  # noqa: S101 - click has all three
    print(completion_class(main.cli, {}, "sortbelt", "_SORTBELT_COMPLETE").source())
