"""Run the `sortbelt` command: `python -m sortbelt`."""

from sortbelt.cli import main

if __name__ == "__main__":
    main.main()
