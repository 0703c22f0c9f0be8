"""The tables of the ledger: a study's facts, its configurations ("arms", by "point"), its trials."""

from __future__ import annotations

import time

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError

#: Creating tables or rows at the same moment as others is tried so often.
TRIES = 20

_METADATA = sa.MetaData()
# MySQL compares text without regard to case unless told, and its TEXT and BLOB end at 64 KB.
_NAME = sa.String(255).with_variant(mysql.VARCHAR(255, collation="utf8mb4_bin"), "mysql")
_JSON = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql")
_BYTES = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql")
POINTS = sa.Table(
    "catpose_points",
    _METADATA,
    sa.Column("study", _NAME, primary_key=True),
    sa.Column("point", sa.Integer, primary_key=True),
    sa.Column("arm", _JSON),
)
STUDIES = sa.Table(
    "catpose_studies",
    _METADATA,
    sa.Column("study", _NAME, primary_key=True),
    sa.Column("facts", _JSON, nullable=False),
)
TRIALS = sa.Table(
    "catpose_trials",
    _METADATA,
    sa.Column("study", _NAME, primary_key=True),
    sa.Column("seed", sa.BigInteger, primary_key=True),  # before the point: the key's order is the order of trials
    sa.Column("point", sa.Integer, primary_key=True),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("token", sa.Integer, nullable=False),
    sa.Column("beat", sa.Integer, nullable=False),
    sa.Column("lost", sa.Integer, nullable=False),
    sa.Column("holder", _JSON),
    sa.Column("number", sa.Integer),
    sa.Column("outcome", _JSON),
    sa.Column("results", _BYTES),
)


def create_tables(engine: sa.Engine) -> None:
    """Create the tables that aren't there; any number of processes may do so at once."""
    for attempt in range(TRIES):
        try:
            return _METADATA.create_all(engine)
        except DBAPIError:  # another process has just created them; or it is a trouble that stays
            if attempt == TRIES - 1:
                raise
            time.sleep(0.05)
