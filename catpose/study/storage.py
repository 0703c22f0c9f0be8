"""Where a study is kept: a database of SQLite, PostgreSQL or MySQL, by its URL.

No connection is kept open between two transactions. A worker talks for milliseconds a minute, and a server's
connections (100 are PostgreSQL's default) are for those who talk; a fork, or a restart of the server, breaks none.

A URL may hold a password. Messages name it through `masked` or `scrub`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote, quote_plus

import optuna
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from sqlalchemy.exc import ArgumentError, InterfaceError, InternalError, OperationalError, SQLAlchemyError

from catpose.errors import InputError, one_line
from catpose.study.environment import masked

#: What a call raises while the database is away; it may be called again.
AWAY = (OperationalError, InterfaceError, InternalError, StorageInternalError)
#: Drivers in the order in which they are looked for: SQLAlchemy's name, the module.
DRIVERS = {
    "sqlite": {"pysqlite": "sqlite3"},
    "postgresql": {"psycopg": "psycopg", "psycopg2": "psycopg2"},
    "mysql": {"mysqldb": "MySQLdb", "pymysql": "pymysql"},
}
PACKAGES = {"postgresql": "psycopg[binary]", "mysql": "pymysql"}
ALIASES = {"postgres": "postgresql", "mariadb": "mysql"}
SECRETS = ("password", "passwd", "sslpassword")
CONNECT_S = 10  # for a server to answer
SILENCE_S = 60  # after which a connection counts as broken
CROWD_S = 60  # of waiting for a connection where the server has no more of them
CROWDED = re.compile("too many (clients|connections)|remaining connection slots|starting up", re.IGNORECASE)
#: How drivers report a server that is stopped, stopping or starting.
SILENT = re.compile(
    "refused|timed? ?out|timeout|starting up|shutting down|unreachable|closed|terminat|no route|name resolution"
    "|reset by|recovery mode|not yet accepting|lost connection|gone away",
    re.IGNORECASE,
)
optuna.logging.set_verbosity(optuna.logging.WARNING)  # studies made to try something aren't told of either
#: Creating Optuna's tables at the same moment as others is tried so often.
TRIES = 30


class AwayError(InputError):
    """The storage's server doesn't answer: a wrong URL, or it will come back."""


def normal_url(url: str) -> str:
    """A storage URL with the driver that is installed; the password is in it.

    Raises:
        InputError: it is no URL of SQLite, PostgreSQL or MySQL, or the driver is missing.
    """
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        raise InputError(
            f"storage {masked(url)}: is no URL; write sqlite:///study.db or postgresql://user:password@host/database"
        ) from None
    scheme, _, driver = parsed.drivername.partition("+")
    scheme = ALIASES.get(scheme, scheme)
    if scheme not in DRIVERS:
        raise InputError(
            f"storage {masked(url)}: {one_line(scheme)} is not known; a study is kept in sqlite, postgresql or mysql"
        )
    if scheme == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise InputError(f"storage {masked(url)}: names no file; write sqlite:///study.db")
    known = DRIVERS[scheme]
    if driver and driver not in known:
        raise InputError(f"storage {masked(url)}: the driver {one_line(driver)} is not known; leave it out")
    for name in (driver,) if driver else known:
        with contextlib.suppress(ImportError):
            importlib.import_module(known[name])
            return parsed.set(drivername=f"{scheme}+{name}").render_as_string(hide_password=False)
    package = driver if driver and driver != "mysqldb" else PACKAGES[scheme]
    raise InputError(f"storage {masked(url)}: its driver is not installed; run: pip install '{package}'")


def scrub(text: str, url: str) -> str:
    """`text` with *** for the URL's passwords, however they are quoted."""
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        return text.replace(url, masked(url))
    secrets = {str(s) for s in (parsed.password, *(parsed.query.get(key) for key in SECRETS)) if s}
    forms = {form for s in secrets for form in (s, quote(s), quote(s, safe=""), quote(s, safe=" +"), quote_plus(s))}
    forms |= {form for s in secrets for form in (repr(s)[1:-1], json.dumps(s)[1:-1])}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text


def open_engine(url: str) -> sa.Engine:
    """The database of a storage URL, seen to answer.

    Raises:
        AwayError: the server can't be reached.
        InputError: as `normal_url`; the server refuses; the file is no database.
    """
    engine = sa.create_engine(normal_url(url), **_settings(url))
    try:
        sa.inspect(engine).has_table("trials")
    except SQLAlchemyError as error:
        raise _refused(url, error) from None
    return engine


def _settings(url: str) -> dict[str, Any]:
    """How engines connect to this storage, ours and Optuna's."""
    parsed = sa.make_url(normal_url(url))
    kind = parsed.get_backend_name()
    settings: dict[str, Any] = {"poolclass": sa.NullPool}
    if kind == "sqlite":
        connect: dict[str, Any] = {"timeout": CROWD_S}
    elif kind == "mysql":
        connect = {"connect_timeout": CONNECT_S, "read_timeout": SILENCE_S, "write_timeout": SILENCE_S}
    else:
        settings["use_native_hstore"] = False  # or each connection begins with a query about hstore
        connect = {"connect_timeout": CONNECT_S, "tcp_user_timeout": 1000 * SILENCE_S}
        connect |= {"keepalives_idle": SILENCE_S // 2, "keepalives_interval": SILENCE_S // 6, "keepalives_count": 3}

    dialect: Any = parsed.get_dialect()
    driver = dialect.import_dbapi()
    positional, named = dialect(dbapi=driver).create_connect_args(parsed)

    def patiently() -> Any:
        """A connection; when the server has no more of them, one of those that others give back."""
        end = time.monotonic() + CROWD_S
        while True:
            try:
                return driver.connect(*positional, **{**connect, **named})
            except driver.Error as error:
                if time.monotonic() > end or not CROWDED.search(str(error)):
                    raise
            time.sleep(random.uniform(0.05, 0.5))

    return settings | {"creator": patiently}


def open_storage(url: str) -> RDBStorage:
    """Optuna's tables in a storage, created where they aren't there; by many processes at once if need be.

    Raises:
        InputError: as `open_engine`; the tables are those of another version of Optuna, or can't be created.
    """
    open_engine(url).dispose()
    template = normal_url(url).replace("{", "{{").replace("}", "}}")  # Optuna fills in {SCHEMA_VERSION}
    for attempt in range(TRIES):
        try:
            return RDBStorage(template, engine_kwargs=_settings(url))
        except RuntimeError as error:  # another version's tables
            raise InputError(f"storage {masked(url)}: {one_line(scrub(str(error), url))}") from None
        # Optuna looks for its tables, then creates them: with others at it, any step may find its work done.
        except (SQLAlchemyError, StorageInternalError, AssertionError) as error:
            if attempt == TRIES - 1:
                raise _refused(url, error) from None
            time.sleep(random.uniform(0.02, 0.2))
    raise AssertionError


def open_study(
    storage: RDBStorage,
    name: str,
    directions: Sequence[str],
    sampler: BaseSampler | None = None,
    pruner: BasePruner | None = None,
) -> optuna.Study:
    """Optuna's study of this name, created where it isn't there.

    Raises:
        InputError: the study has other directions.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=[StudyDirection[direction.upper()] for direction in directions],
        load_if_exists=True,
        sampler=sampler,
        pruner=pruner,
    )
    stored = [direction.name.lower() for direction in study.directions]
    if stored != [*directions]:
        raise InputError(
            f"study {name}: its storage has it with {', '.join(stored)} instead of {', '.join(directions)}; give the"
            " study another name"
        )
    return study


@contextlib.contextmanager
def refusals(url: str) -> Iterator[None]:
    """What the database refuses within the block is raised as AwayError, or InputError where it won't answer later."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise _refused(url, error) from error


def _refused(url: str, error: BaseException) -> InputError:
    reason = getattr(error, "orig", None) or error.__cause__ or error
    shown = one_line(scrub(str(reason), url))[:300]
    kind = AwayError if SILENT.search(shown) else InputError
    return kind(f"storage {masked(url)}: {shown}; check the URL and the server")
