"""Command lines and environment of the server's processes: the caller's settings, then those of the data folder."""

import os
import sys
from pathlib import Path

from sortbelt import errors

# Settings of clients; a server process would reject them as unknown.
CLIENT_VARIABLES = {"SORTBELT_URL", "SORTBELT_KEY", "SORTBELT_KEY_FILE", "SORTBELT_DATA_DIR"}
CHECKOUT = Path(__file__).resolve().parent.parent.parent


def check_server_installed() -> None:
    """Check that this is a checkout: the wheel has the client only.

    Raises:
        errors.BadInput: there are no server packages beside this one.
    """
    if not (CHECKOUT / "core" / "settings.py").is_file():
        raise errors.BadInput(
            "This installation has only the client: `sortbelt up`, `db`, `doctor` and `train` need a checkout of "
            "Sortbelt (`make setup`) or its container images.",
            "no_server",
        )


def server_command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module of the server; `-P` keeps the current folder off its import path.

    Raises:
        errors.BadInput: this installation has no server.
    """
    check_server_installed()
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(folder: Path, **settings: str | int | None) -> dict[str, str]:
    """Return the environment for processes that use a data folder.

    Args:
        folder: the data folder.
        settings: by variable name, in lower case and without the prefix. None leaves a setting to the environment of
            this process, and then to the data folder.
    """
    variables = {name: value for name, value in os.environ.items() if name not in CLIENT_VARIABLES}
    for name, value in settings.items():
        if value is not None:
            variables.pop(_variable_name(name) + "_FILE", None)
            variables[_variable_name(name)] = str(value)
    for name, value in _defaults(folder).items():
        if not {_variable_name(name), _variable_name(name) + "_FILE"} & variables.keys():
            variables[_variable_name(name)] = value
    if "SORTBELT_ADMIN_KEY" in variables and (folder / "admin.key").exists():  # `up` has written it there
        variables["SORTBELT_ADMIN_KEY_FILE"] = str(folder / "admin.key")
        del variables["SORTBELT_ADMIN_KEY"]
    # -P is not inherited by the processes that the server's processes start; this variable is.
    variables |= {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
    return variables


def database_url(folder: Path) -> str:
    """Return the database that the server's processes use."""
    settings = child_environment(folder)
    if "SORTBELT_DATABASE_URL_FILE" in settings:
        return Path(settings["SORTBELT_DATABASE_URL_FILE"]).read_text(encoding="utf-8").strip()
    return settings["SORTBELT_DATABASE_URL"]


def _defaults(folder: Path) -> dict[str, str]:
    defaults = {"database_url": f"sqlite:///{folder / 'sortbelt.db'}"}
    defaults |= {"blob_store": str(folder / "blobs"), "model_cache": str(folder / "models")}
    key = folder / "admin.key"
    return defaults | ({"admin_key_file": str(key)} if key.exists() else {})


def _variable_name(name: str) -> str:
    return f"SORTBELT_{name.upper()}"
