"""The environment of the server's processes: the caller's settings first, the data folder for what they leave open."""

import os
from collections.abc import Mapping
from pathlib import Path

# They tell a client where to go; a server's process would take them for misspelt settings.
CLIENTS = {"SORTBELT_URL", "SORTBELT_KEY", "SORTBELT_KEY_FILE", "SORTBELT_DATA_DIR"}
HOME = Path(__file__).resolve().parent.parent


def of_children(folder: Path, environ: Mapping[str, str] | None = None, **settings: str | int | None) -> dict[str, str]:
    """The environment for processes that work on a data folder.

    Args:
        folder: the data folder.
        environ: of the caller, else of this process.
        settings: by their variables' names in lower case, without the prefix; None leaves one to the caller's
            environment, and then to the data folder.
    """
    environ = os.environ if environ is None else environ
    children = {name: value for name, value in environ.items() if name not in CLIENTS}
    for name, value in settings.items():
        if value is not None:
            children.pop(_variable(name) + "_FILE", None)
            children[_variable(name)] = str(value)
    for name, value in _defaults(folder).items():
        if not {_variable(name), _variable(name) + "_FILE"} & children.keys():
            children[_variable(name)] = value
    if "SORTBELT_ADMIN_KEY" in children and (folder / "admin.key").exists():  # where `up` has put it
        children["SORTBELT_ADMIN_KEY_FILE"] = str(folder / "admin.key")
        del children["SORTBELT_ADMIN_KEY"]
    # A file named jobs.py in the folder where somebody happens to be must not become part of the server.
    children |= {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    if HOME.name not in {"site-packages", "dist-packages"}:
        children["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HOME), environ.get("PYTHONPATH"))))
    return children


def _defaults(folder: Path) -> dict[str, str]:
    defaults = {"database_url": f"sqlite:///{folder / 'sortbelt.db'}"}
    defaults |= {"blobs": str(folder / "blobs"), "model_cache": str(folder / "models")}
    key = folder / "admin.key"
    return defaults | ({"admin_key_file": str(key)} if key.exists() else {})


def _variable(name: str) -> str:
    return f"SORTBELT_{name.upper()}"
