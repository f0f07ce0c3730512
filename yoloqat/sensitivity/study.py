"""The study: every finished piece of a scan in one SQLite file, so that nothing finished is ever done again.

A piece is one item on one batch of images. Who works on it is written down before the work begins, with a time until which the
claim holds; a claim of a process that is gone, or that let its time pass, is free again. Each finished piece is a transaction
of its own, so that a process that is killed loses the piece it was at and nothing else.
"""

from __future__ import annotations

import json
import math
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from yoloqat.errors import ConfigError, DataError, OutputError

LEASE_SECONDS = 120.0
"""How long a claim holds without a sign of life."""

WAIT_SECONDS = 120.0
"""How long another process may hold the file."""

_FOREIGN = ("no such table", "no such column", "has no column", "may not be modified", "views may not be indexed")
"""Parts of SQLite's messages about a database whose tables are not these."""

_TABLES = """
CREATE TABLE IF NOT EXISTS input (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS piece (
  item TEXT NOT NULL, chunk INTEGER NOT NULL, owner TEXT, until REAL, claims INTEGER NOT NULL DEFAULT 0,
  done INTEGER NOT NULL DEFAULT 0, matches BLOB, head_error REAL, forward REAL, scoring REAL, changed INTEGER,
  detections BLOB, PRIMARY KEY (item, chunk));
CREATE INDEX IF NOT EXISTS waiting ON piece (done, chunk);
"""

_LEAST = 4
"""Pieces that are worth a run of the base model of their own."""

_FREE_OF = "UPDATE piece SET owner = NULL, until = NULL WHERE done = 0 AND owner = ?"
_WAITING = "SELECT COUNT(*), MIN(chunk) FROM piece WHERE done = 0 AND (until IS NULL OR until < ?)"
_ITEMS = "SELECT item FROM piece WHERE done = 0 AND (until IS NULL OR until < ?) AND chunk = ? ORDER BY item"
_CLAIM = "UPDATE piece SET owner = ?, until = ?, claims = claims + 1 WHERE item = ? AND chunk = ?"
_FINISH = (
    "UPDATE piece SET done = 1, owner = NULL, until = NULL, matches = ?, head_error = ?, forward = ?, scoring = ?, "
    "changed = ?, detections = ? WHERE item = ? AND chunk = ? AND done = 0 AND owner = ?"
)
_RESULTS = (
    "SELECT chunk, matches, head_error, forward, scoring, changed, detections FROM piece "
    "WHERE item = ? AND done = 1 ORDER BY chunk"
)


@dataclass(frozen=True, eq=False)
class WorkResult:
    """The work result of one piece: one item on one batch of images.

    Attributes:
        matches: Packed matches of the batch's images; None for an image whose output is that of the base model.
        head_error: Mean relative squared error of the head's output against the base model.
        forward: Seconds of the forward or its replay; those of items that ran together stand under the first.
        scoring: Seconds of NMS and matching.
        changed: Images whose output changed.
        detections: The detections themselves, packed, of the base model and its opposite.
    """

    matches: bytes
    head_error: float
    forward: float
    scoring: float
    changed: int
    detections: bytes | None = None


class Study:
    """An open study.

    Args:
        path: The file; made where it is missing.
        inputs: All that the results depend on, JSON-able. A study that was made of other inputs is refused.
        owner: Who claims; the default is this process.

    Raises:
        ConfigError: The study was made of other inputs; the difference is named.
        DataError: The file is no study. Every method raises it too, where the file is damaged.
        OutputError: It cannot be written: the disk is full, the file is read-only, or another process holds it. Every method
            raises it too; what was finished before is kept.
    """

    def __init__(self, path: Path, inputs: dict[str, Any], *, owner: str | None = None) -> None:
        self.path = path
        self.owner = owner or this_process()
        self._lock = threading.RLock()  # the thread that renews claims uses the connection too
        with self._errors_explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()  # with the permissions of any other new file, which SQLite does not give
            self._connection = sqlite3.connect(
                path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode=WAL")
            # with WAL nothing finished is lost but by a power cut
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(_TABLES)
        self._check(inputs)

    def _check(self, inputs: dict[str, Any]) -> None:
        wanted = dict(_flat(inputs))
        with self._transaction() as connection:
            known = dict(connection.execute("SELECT name, value FROM input"))
            if not known:
                connection.executemany("INSERT INTO input VALUES (?, ?)", wanted.items())
                return
        for name in sorted(known.keys() | wanted.keys()):
            if known.get(name) != wanted.get(name):
                raise ConfigError(
                    f"study '{self.path}' was made with {name} {known.get(name)} and this run has {wanted.get(name)}",
                    expected="the same inputs",
                    hint="name another directory with `out`, or go back to what it was made with",
                )

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        """Turn what SQLite complains of into an error in one line; what was finished before stays finished."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if any(text in str(error) for text in _FOREIGN):
                raise self.damaged(error) from error
            raise self._unwritable(error) from error
        except (sqlite3.Error, ValueError, OverflowError) as error:
            raise self.damaged(error) from error
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> OutputError:
        return OutputError(
            f"study '{self.path}' cannot be written ({error})",
            expected="a writable directory with free space on a local disk",
            hint="make room or end what holds it and type the same line again, or name another directory with `out`",
        )

    def damaged(self, error: Exception) -> DataError:
        """Return the error that says of this study what is wrong with its contents."""
        return DataError(
            f"'{self.path}' is no study, or is damaged ({error})",
            expected="a file that `yoloqat sensitivity` wrote",
            hint="remove it, or name another directory with `out`",
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors_explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # of a full disk SQLite may have rolled back by itself
                    self._connection.execute("ROLLBACK")
                raise

    def _read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock, self._errors_explained():
            return self._connection.execute(query, values).fetchall()

    def want(self, items: Collection[str], batches: Iterable[int]) -> None:
        """Put pieces on the list of what is to be done; those that are there stay as they are."""
        pairs = [(item, batch) for batch in batches for item in items]
        with self._transaction() as connection:
            connection.executemany("INSERT OR IGNORE INTO piece (item, chunk) VALUES (?, ?)", pairs)

    def claim(self, *, workers: int = 1, most: int | None = None) -> tuple[int, list[str]] | None:
        """Take pieces of one batch that nobody works on; None where there are none.

        Where others work on the study too, a batch that would leave them without work is shared.

        Args:
            workers: Workers that this owner claims for.
            most: Pieces to take at most.
        """
        now = time.time()
        with self._transaction() as connection:
            held = connection.execute("SELECT DISTINCT owner FROM piece WHERE done = 0 AND until >= ?", (now,))
            owners = {row[0] for row in held} - {self.owner}
            gone = {owner for owner in owners if is_gone(owner)}
            connection.executemany(_FREE_OF, [(owner,) for owner in gone])
            count, batch = connection.execute(_WAITING, (now,)).fetchone()
            if not count:
                return None
            items = [row[0] for row in connection.execute(_ITEMS, (now, batch))]
            sharing = len(owners - gone) + workers
            if sharing > 1:
                items = items[: max(_LEAST, -(-count // (2 * sharing)))]
            items = items[:most]
            connection.executemany(_CLAIM, [(self.owner, now + LEASE_SECONDS, item, batch) for item in items])
            return int(batch), items

    def finish(self, item: str, batch: int, result: WorkResult) -> bool:
        """Keep what a piece gave; False where it is no longer this owner's, because its time passed."""
        with self._transaction() as connection:
            values = (getattr(result, field.name) for field in fields(result))
            cursor = connection.execute(_FINISH, (*values, item, batch, self.owner))
            return cursor.rowcount == 1

    def renew(self) -> None:
        """Give a sign of life: let the claims of this owner hold for longer."""
        with self._transaction() as connection:
            until = time.time() + LEASE_SECONDS
            connection.execute("UPDATE piece SET until = ? WHERE done = 0 AND owner = ?", (until, self.owner))

    def release(self) -> None:
        """Give up the claims of this owner."""
        with self._transaction() as connection:
            connection.execute(_FREE_OF, (self.owner,))

    def counts(self) -> tuple[int, int]:
        """Return how many pieces are done, and how many are on the list."""
        ((done, total),) = self._read("SELECT COALESCE(SUM(done), 0), COUNT(*) FROM piece")
        return int(done), int(total)

    def claims(self) -> int:
        """Return how often pieces were claimed in all; the number of pieces where none was begun twice."""
        return int(self._read("SELECT COALESCE(SUM(claims), 0) FROM piece")[0][0])

    def results(self, item: str) -> dict[int, WorkResult]:
        """Return what the finished pieces of an item gave, by batch.

        Raises:
            DataError: A row holds something else.
        """
        found = {}
        for batch, *values in self._read(_RESULTS, item):
            fits = isinstance(values[0], bytes) and isinstance(values[5], bytes | None)
            whole = isinstance(batch, int) and isinstance(values[4], int)
            if not (fits and whole and all(isinstance(value, float) and math.isfinite(value) for value in values[1:4])):
                raise self.damaged(ValueError(f"item {item!r} on batch {batch!r}"))
            found[batch] = WorkResult(*values)
        return found

    def note(self, name: str, value: Any) -> None:
        """Write down something that is found once, such as a decision between rounds; the first to write it is heard."""
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO note VALUES (?, ?)", (name, json.dumps(value)))

    def noted(self, name: str, read: Callable[[Any], Any] = lambda value: value) -> Any:
        """Return what was written down under ``name``, or None.

        Args:
            name: Of the note.
            read: Makes of the note what is returned; a ValueError, TypeError or KeyError of it says that the note is damaged.

        Raises:
            DataError: It is no JSON, or not what ``read`` takes.
        """
        rows = self._read("SELECT value FROM note WHERE name = ?", name)
        with self._errors_explained():
            try:
                value = json.loads(str(rows[0][0])) if rows else None
                return None if value is None else read(value)
            except (TypeError, LookupError, AttributeError) as error:
                raise ValueError(f"note {name!r}: {type(error).__name__} {error}") from error

    def once(self, name: str, make: Callable[[], Any], read: Callable[[Any], Any]) -> Any:
        """Return what was written down under ``name``, or what ``make`` gives, which is written down then."""
        found = self.noted(name, read)
        if found is None:
            self.note(name, make())
            found = self.noted(name, read)
        return found

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the leaves of nested dicts under dotted names, as JSON."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}" if name else str(key))
    else:
        yield name, json.dumps(value)


def this_process() -> str:
    """Return a text that names this process and no other, also not a later one of the same number."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start(os.getpid())}"


def is_gone(owner: str) -> bool:
    """Return True where ``owner`` was a process of this machine that has ended; of others nobody knows.

    On Windows of none: there is no signal that only asks, and number 0 is the one of Ctrl-C.
    """
    host, _, rest = owner.partition(":")
    number, _, start = rest.partition(":")
    if host != socket.gethostname() or not number.isdecimal() or os.name == "nt":
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _start(int(number)) != start


def _start(process: int) -> str:
    """Return when a process was started, in ticks since the machine was; empty where that cannot be read."""
    try:
        # the second field is the name in brackets, which may hold spaces
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{fields[19]}{'-zombie' if fields[0] == 'Z' else ''}"
