"""Makes docs/settings.md from the settings themselves: `python docs/make_settings.py`; a test tells when it is due."""

import ast
import inspect
import itertools
from pathlib import Path

from jobs import settings

PAGE = Path(__file__).with_name("settings.md")
HEAD = """# The settings of the server

Made by `python docs/make_settings.py` from what each setting says of itself.

API, worker and courier read them from the environment, once, when they start; a wrong one, or an unknown name, ends the
program with a sentence. `NAME_FILE` names a file that holds the value of `NAME`, for what is secret. `sortbelt doctor`,
run with them, says which do not fit together. `sortbelt up` sets what its own stack needs and hands the others on.
Where the command finds the server is another matter: [commands.md](commands.md).

| Variable | Default | What it says |
|---|---|---|
"""
OF_THE_MACHINE = {
    "bundles": "those in `model/bundles`",
    "decoders": "as many as there are cores",
    "model_cache": "below the system's folder for temporary files",
}


def told() -> dict[str, str]:
    """What stands beneath each setting, by its name."""
    (made,) = ast.parse(inspect.getsource(settings.Settings)).body
    assert isinstance(made, ast.ClassDef)
    return {
        field.target.id: " ".join(str(text.value.value).split())
        for field, text in itertools.pairwise(made.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def page() -> str:
    """The whole document."""
    says = told()
    rows = []
    for name, field in settings.Settings.model_fields.items():
        plain = field.default if isinstance(field.default, int | float | str) else ""
        plain = str(plain).lower() if isinstance(plain, bool) else plain
        default = OF_THE_MACHINE.get(name) or (f"`{plain}`" if plain != "" else "")
        rows.append(f"| `{settings.PREFIX}{name.upper()}` | {default} | {says[name]} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
