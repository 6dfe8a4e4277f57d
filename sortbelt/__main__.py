"""`python -m sortbelt` is the `sortbelt` command."""

from sortbelt import command

if __name__ == "__main__":
    command.main()
