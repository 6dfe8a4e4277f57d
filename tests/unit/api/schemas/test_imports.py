"""The imports of the schemas."""

import subprocess
import sys

PROGRAM = """
import importlib, pkgutil, sys
from api import schemas
for module in pkgutil.iter_modules(schemas.__path__):
    importlib.import_module(f"api.schemas.{module.name}")
print(*sorted({"flask", "werkzeug", "sqlalchemy"} & set(sys.modules)))
"""


def test_schemas_load_neither_flask_nor_a_database():
    """They describe JSON; programs that only generate or check it need nothing else."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
