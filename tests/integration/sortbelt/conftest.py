"""The fixtures of the sortbelt tests."""

from tests.support.sortbelt_fixtures import (  # noqa: F401 (pytest finds fixtures by their names here)
    _isolated_data_home,
    client,
    data_folder,
    run_cli,
    server,
)
