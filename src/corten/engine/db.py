"""The database: one sqlite file, records as JSON beside the few columns that must be unique. Knows no record's meaning.

Write-ahead log with NORMAL sync: an upsert costs 40 us, a crash of the daemon loses nothing, a power cut at most the
last moments. Calls are synchronous, on the event loop. One operation of the engine is one transaction.
"""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from corten.base.errors import Conflict, Internal

VERSION = 1

# tables of records: key -> JSON, with a unique name where there is one
TABLES = frozenset((
    "container", "exec", "image", "image_record", "network", "endpoint", "volume", "build_cache", "build_history",
    "layer", "gateway",
))

_RECORDS = """CREATE TABLE IF NOT EXISTS {table} (
    key TEXT PRIMARY KEY NOT NULL, name TEXT UNIQUE, record BLOB NOT NULL) STRICT, WITHOUT ROWID"""

_SCHEMA = (
    *(_RECORDS.format(table=table) for table in sorted(TABLES)),
    """CREATE TABLE IF NOT EXISTS lease (
        network_id TEXT NOT NULL, address TEXT NOT NULL, container_id TEXT NOT NULL,
        PRIMARY KEY (network_id, address)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS lease_container ON lease (container_id)",
    """CREATE TABLE IF NOT EXISTS lease_turn (
        network_id TEXT NOT NULL, subnet TEXT NOT NULL, address TEXT NOT NULL,
        PRIMARY KEY (network_id, subnet)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS port (
        proto TEXT NOT NULL, host_ip TEXT NOT NULL, port INTEGER NOT NULL, container_id TEXT NOT NULL,
        container_port INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (proto, host_ip, port)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS port_container ON port (container_id)",
)


_RESERVE_BYTES = 128 << 10


class NameTaken(Conflict):
    """The unique name or key is in use."""


def _sql(table: str, verb: str) -> str:
    if table not in TABLES:
        raise Internal(f"no table {table}")
    return verb.format(table=table)


_UPSERT = """INSERT INTO {table} (key, name, record) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET name = excluded.name, record = excluded.record"""


@contextmanager
def _disk_errors() -> Iterator[None]:
    """sqlite's word for a full disk becomes the system's."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


class Database:
    """One daemon's database; nobody else may have it open (the file is locked for as long as it is)."""

    def __init__(self, path: str) -> None:
        """Open or make it, mode 0600. Raises Internal when another daemon holds it or a newer one has written it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.close(descriptor)
        self._connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
        self._depth = 0
        self._reserve = f"{path}-reserve"
        run = self._connection.execute
        try:
            run("PRAGMA locking_mode = EXCLUSIVE")
            run("PRAGMA journal_mode = WAL")
            run("PRAGMA synchronous = NORMAL")
            found = int(run("PRAGMA user_version").fetchone()[0])
            if found > VERSION:
                raise Internal(f"{path} was written by a newer corten (version {found}, this one reads {VERSION})")
            run("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                run(statement)
            run(f"PRAGMA user_version = {VERSION}")
            run("COMMIT")
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise Internal(f"{path}: {error} (does another daemon use this data root?)") from None
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise Internal(f"{path} is damaged: {error}. Nothing has been changed: put a copy of it back") from None
        self._reserve_room()

    def close(self) -> None:
        """Fold the log into the file and let go of it."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; an exception rolls back. A transaction within one joins it. Never await inside."""
        if self._depth:
            yield
            return
        with _disk_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have ended it already
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._depth = 0

    def put(self, table: str, key: str, record_json: bytes, name: str | None = None) -> None:
        """Insert or replace the record of `key`.

        Raises NameTaken (a Conflict) when another key has `name`, OSError when the disk is full.
        """
        try:
            with _disk_errors():
                self._connection.execute(_sql(table, _UPSERT), (key, name, record_json))
        except sqlite3.IntegrityError:
            raise NameTaken(f"name {name!r} is in use in {table}") from None

    def get(self, table: str, key: str) -> bytes | None:
        """The record of `key`, None when there is none."""
        row = self._connection.execute(_sql(table, "SELECT record FROM {table} WHERE key = ?"), (key,)).fetchone()
        return bytes(row[0]) if row else None

    def delete(self, table: str, *keys: str) -> None:
        """Forget these keys, all or none; absent ones are fine. A full disk is no hindrance, but in a transaction."""
        try:
            self._delete(table, keys)
        except OSError:
            if self._depth or not self._use_reserve():
                raise
            self._delete(table, keys)

    def _delete(self, table: str, keys: tuple[str, ...]) -> None:
        with self.transaction(), _disk_errors():
            self._connection.executemany(_sql(table, "DELETE FROM {table} WHERE key = ?"), [(key,) for key in keys])

    def _reserve_room(self) -> None:
        """Keep a little of the disk back: what frees room has to be written down too."""
        with suppress(OSError):  # the disk is full already, and a daemon starts all the same
            descriptor = os.open(self._reserve, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, _RESERVE_BYTES)
            except OSError:
                os.unlink(self._reserve)
            finally:
                os.close(descriptor)

    def _use_reserve(self) -> bool:
        """Give it up until the next start; whether it was there."""
        try:
            os.unlink(self._reserve)
        except FileNotFoundError:
            return False
        return True

    def all(self, table: str) -> list[tuple[str, bytes]]:
        """Every key with its record, in the order of the keys."""
        try:
            rows = self._connection.execute(_sql(table, "SELECT key, record FROM {table} ORDER BY key")).fetchall()
        except sqlite3.DatabaseError as error:
            raise Internal(f"table {table} of the database is damaged: {error}. Nothing has been changed") from None
        return [(str(key), bytes(record)) for key, record in rows]

    def execute(self, sql: str, *arguments: object) -> list[tuple[object, ...]]:
        """Run one statement and fetch all its rows. Raises NameTaken when a unique column refuses."""
        try:
            return self._connection.execute(sql, arguments).fetchall()
        except sqlite3.IntegrityError as error:
            raise NameTaken(str(error)) from None
