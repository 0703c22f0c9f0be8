from __future__ import annotations

import sys
import threading
from pathlib import Path
from urllib.parse import quote

import optuna
import pytest
import sqlalchemy as sa
from forked import together
from hypothesis import given
from hypothesis import strategies as st

from catpose.errors import InputError
from catpose.study.ledger import Ledger
from catpose.study.space import Configuration
from catpose.study.storage import masked, normal_url, open_engine, open_storage, open_study, scrub
from catpose.study.stored import Outcome

SECRET = "hun/t:er@2%{x}"


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("sqlite:///runs/study.db", "sqlite+pysqlite:///runs/study.db"),
        ("postgresql://me:pass@host:5/db", "postgresql+psycopg://me:pass@host:5/db"),
        ("postgres://host/db?sslmode=require", "postgresql+psycopg://host/db?sslmode=require"),
    ],
)
def test_the_installed_driver_is_named(given: str, normal: str) -> None:
    if given.startswith("postgres"):
        pytest.importorskip("psycopg")
    assert normal_url(given) == normal
    assert normal_url(normal) == normal


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("study.db", "is no URL; write sqlite:///study.db"),
        ("", "is no URL"),
        ("postgresql://me:hunter2@host:port/db", "is no URL"),
        ("redis://me:hunter2@host/0", "redis is not known; a study is kept in sqlite, postgresql or mysql"),
        ("postgresql+asyncpg://me:hunter2@host/db", "the driver asyncpg is not known; leave it out"),
        ("sqlite://", "names no file; write sqlite:///study.db"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_what_is_no_storage_is_said_in_one_line(url: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        normal_url(url)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("scheme", "modules", "package"),
    [
        ("mysql", ["MySQLdb", "pymysql"], "pymysql"),
        ("mariadb", ["MySQLdb", "pymysql"], "pymysql"),
        ("postgresql", ["psycopg", "psycopg2"], "psycopg[binary]"),
        ("postgresql+psycopg2", ["psycopg2"], "psycopg2"),
    ],
)
def test_a_missing_driver_is_named(
    scheme: str, modules: list[str], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)  # as if it weren't installed
    with pytest.raises(InputError) as error:
        normal_url(f"{scheme}://me:hunter2@host/db")
    assert str(error.value) == (
        f"storage {scheme}://me:***@host/db: its driver is not installed; run: pip install '{package}'"
    )


@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=8, max_size=20))
def test_a_password_is_seen_nowhere(password: str) -> None:
    url = sa.URL.create("postgresql+psycopg", "me", password, "host", 5432, "db")
    text = url.render_as_string(hide_password=False)
    assert masked(text) == str(url)
    said = f"no {password} in {text}, {quote(password)}, {quote(password, safe='')}, {password!r}"
    for form in {password, quote(password), quote(password, safe=""), repr(password)[1:-1]}:
        assert form not in scrub(said, text).replace("***", "\0")


def test_a_password_among_the_options_is_one_too() -> None:
    url = "postgresql://host/db?user=me&password=hunter2&sslmode=require"
    assert masked(url) == "postgresql://host/db?user=me&password=***&sslmode=require"
    assert scrub("for hunter2", url) == "for ***"


@pytest.mark.parametrize("url", ["postgresql://me:hunter2@127.0.0.1:1/db", "sqlite:////nowhere/at/all/study.db"])
def test_a_storage_out_of_reach_is_said_in_one_line(url: str) -> None:
    with pytest.raises(InputError) as error:
        open_study(open_storage(url), "s", ["maximize"])
    assert str(error.value).startswith(f"storage {masked(url)}: ")
    assert "check the URL and the server" in str(error.value)
    assert "\n" not in str(error.value)
    assert "hunter2" not in str(error.value)


def test_a_file_that_is_no_database_is_refused_and_untouched(tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    file.write_bytes(b"my notes on cats, " * 100)
    with pytest.raises(InputError, match="not a database"):
        open_study(open_storage(f"sqlite:///{file}"), "s", ["maximize"])
    assert file.read_bytes() == b"my notes on cats, " * 100


def locked(database: str, limit: int = -1) -> str:
    """The URL of a user of this database who needs a password, and may have so many connections."""
    with open_engine(database).execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        name = sa.make_url(database).database
        hba = Path(connection.execute(sa.text("SHOW hba_file")).scalar_one())
        hba.write_text(f"local {name} {name} scram-sha-256\n" + hba.read_text())
        secret = SECRET.replace(":", r"\:")
        connection.execute(sa.text(f"CREATE ROLE {name} LOGIN PASSWORD '{secret}' CONNECTION LIMIT {limit}"))
        connection.execute(sa.text(f"GRANT ALL ON DATABASE {name} TO {name}"))
        connection.execute(sa.text(f"GRANT ALL ON SCHEMA public TO {name}"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))
        connection.execute(sa.text("SELECT pg_sleep(0.2)"))
    url = sa.make_url(database).set(username=name, password=SECRET)
    return url.render_as_string(hide_password=False)


@pytest.mark.slow
def test_a_wrong_password_is_said_without_it(database: str, caplog: pytest.LogCaptureFixture) -> None:
    url = locked(database)
    wrong = sa.make_url(url).set(password="hun/t:er@3").render_as_string(hide_password=False)
    for refused in (wrong, sa.make_url(url).set(password=None).render_as_string()):
        with pytest.raises(InputError) as error:
            open_study(open_storage(refused), "s", ["maximize"])
        assert "password" in str(error.value)
        assert "er@3" not in str(error.value)
        assert "er%403" not in str(error.value)
        assert "\n" not in str(error.value)
    study = open_study(open_storage(url), "s", ["maximize"])
    assert study.study_name == "s"
    assert "er@2" not in caplog.text
    with pytest.raises(InputError) as error:
        open_study(open_storage(url), "s", ["minimize"])
    assert "with maximize instead of minimize; give the study another name" in str(error.value)
    assert "er" + "%402" not in str(error.value)


@pytest.mark.slow
def test_many_share_few_connections(database: str) -> None:
    url = locked(database, limit=3)
    ledger = Ledger(open_engine(url), "s")
    ledger.plan([Configuration(str(x), {"x": x}, ()) for x in range(30)], [0])
    done = []

    def work() -> None:
        while (trial := ledger.claim()) is not None:
            assert ledger.finish(trial, "complete", Outcome())
            done.append(trial.configuration_index)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(30))


@pytest.mark.slow
def test_many_create_the_same_study_at_once(url: str) -> None:
    def work(index: int) -> int:
        storage = open_storage(url)
        open_study(storage, "s", ["maximize", "minimize"]).ask()
        return storage.get_study_id_from_name("s")

    assert len(set(together(4, work))) == 1
    assert optuna.get_all_study_names(normal_url(url)) == ["s"]
    study = open_study(open_storage(url), "s", ["maximize", "minimize"])
    assert sorted(trial.number for trial in study.trials) == list(range(4))


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "{a} 100% b"
    folder.mkdir()
    open_study(open_storage(f"sqlite:///{folder / 'study.db'}"), "s", ["maximize"])
    assert (folder / "study.db").stat().st_size > 0
