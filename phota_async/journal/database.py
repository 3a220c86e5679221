"""The database itself: opened by one run at a time, written in transactions, its errors told in our words."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar

from phota_async.errors import JournalError

NAME = ".phota-async.sqlite3"
LOCK_NAME = f"{NAME}-lock"
OPEN_NAME = f"{NAME}-open"

_APPLICATION = 0x50484F54  # "PHOT": what kind of database this is
_VERSION = 1
_RESERVE_PAGES = 64
_SCHEMA = f"""
CREATE TABLE runs (id INTEGER PRIMARY KEY, options INTEGER, since INTEGER, begun REAL, ended REAL, complete INTEGER,
    message TEXT, stand_in INTEGER);
CREATE TABLE options (id INTEGER PRIMARY KEY, text TEXT UNIQUE);
CREATE TABLE photos (source BLOB PRIMARY KEY, name BLOB, size INTEGER, modified_ns INTEGER, sha256 BLOB, reason TEXT,
    batch INTEGER) WITHOUT ROWID;
CREATE INDEX unusable ON photos (source) WHERE reason NOT NULL;
CREATE TABLE batches (number INTEGER PRIMARY KEY, digest BLOB);
CREATE TABLE items (sha256 BLOB, options INTEGER, state TEXT, prior TEXT, source BLOB, links TEXT, request_id TEXT,
    cost_usd REAL, kind TEXT, reason TEXT, at REAL, run INTEGER, PRIMARY KEY (sha256, options)) WITHOUT ROWID;
CREATE INDEX sent ON items (state) WHERE state = 'sent';
CREATE INDEX answered ON items (state) WHERE state = 'answered';
CREATE TABLE files (folded TEXT PRIMARY KEY, name BLOB, source BLOB, sha256 BLOB, options INTEGER, number INTEGER,
    written INTEGER) WITHOUT ROWID;
CREATE INDEX files_of ON files (source, options, sha256, number, written, name);
CREATE INDEX files_with ON files (sha256, options);
CREATE TABLE reserve (bytes BLOB);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
"""

# How a log begins: sqlite.org/fileformat2.
_LOG_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_LOG_LOST = (
    "the log {path}-wal of a run that was killed is gone or damaged, and with it what was in flight. The images are"
    " untouched. Put the log back; or run again with retry_unknown to go on without it: the few photos that were"
    " in flight may then be bought a second time"
)

T = TypeVar("T")
Entry: TypeAlias = Callable[[sqlite3.Connection], T]
"""Something to ask or to write within a transaction."""

_DISK_ERRORS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
}


class Journal:
    """One folder's journal. Its methods may be called from any thread, one at a time waits for the other.

    Raises of every method:
        JournalError: It is in use, damaged, or not ours.
        OSError: The disk does not take it, or the folder is gone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME
        self.is_closed = False
        self._mutex = threading.Lock()
        self._opened = ExitStack()
        self._identity: tuple[int, int] | None = None
        self._connection: sqlite3.Connection

    @classmethod
    def open(cls, folder: Path, *, without_log: bool = False) -> Self:
        """Open the journal of a folder that exists, as its only writer; a new one if there is none.

        Args:
            folder: The output folder.
            without_log: Whether to go on where the log of a killed run is gone, and with it what the run sent last.
        """
        journal = cls(folder)
        with ExitStack() as opened, journal._border():
            _refuse_links(folder)
            # Who only asks whether a run is there holds it for a moment.
            opened.enter_context(_locked(folder, timeout=0.5))
            if not journal.path.exists():
                _create(journal.path)
            elif not without_log and _has_lost_its_log(journal.path):
                raise JournalError(_LOG_LOST.format(path=journal.path))
            journal._connection = opened.enter_context(_connected(journal.path))
            _check(journal._connection, journal.path)  # first: another program's database is left as it is
            # Closed last to first: while the lock is held the database goes back to a single file.
            opened.callback(journal._settle)
            journal._prepare()
            status = journal.path.stat()
            journal._identity = status.st_dev, status.st_ino
            journal._opened = opened.pop_all()
        return journal

    @classmethod
    def scratch(cls, folder: Path) -> Self:
        """Open a copy of a folder's journal, or an empty one, that is thrown away when it is closed."""
        journal = cls(folder)
        with ExitStack() as opened, journal._border():
            journal._connection = opened.enter_context(_connected(""))
            if journal.path.exists():
                with _read(journal.path) as original:
                    original.backup(journal._connection)
            else:
                journal._connection.executescript(_SCHEMA)
            journal._opened = opened.pop_all()
        return journal

    @classmethod
    def reading(cls, folder: Path) -> Self:
        """Open the journal of a folder to look into it, also while a run writes to it.

        Raises:
            JournalError: There is none.
        """
        journal = cls(folder)
        if not journal.path.exists():
            raise JournalError(f"{folder} has no journal ({NAME}): nothing was enhanced into it")
        with ExitStack() as opened, journal._border():
            journal._connection = opened.enter_context(_read(journal.path))
            journal._opened = opened.pop_all()
        return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; another run may open it."""
        self.is_closed = True
        with self._mutex:
            self._opened.close()

    def write(self, entries: Iterable[Entry[Any]]) -> list[Any]:
        """Carry out ``entries`` in one transaction, and return what they return once it is safe on the disk."""
        with self._mutex, self._border():
            self._check_presence()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                results = [entry(self._connection) for entry in entries]
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            self._keep_reserve()
        return results

    def mark_open(self) -> None:
        """Note, beside the file, that a log goes with it from now on, until both are one again."""
        with self._mutex, self._border():
            _make_private(self.folder / OPEN_NAME)

    def ask(self, entry: Entry[T]) -> T:
        """Return what ``entry`` finds out; it writes nothing."""
        with self._mutex, self._border():
            return entry(self._connection)

    # ---- inside

    @contextmanager
    def _border(self) -> Generator[None, None, None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.ProgrammingError | sqlite3.IntegrityError):
                raise  # a bug
            failure = self._in_our_words(error)
        except UnicodeDecodeError as error:  # what SQLite says of a damaged schema repeats its bytes
            failure = damaged(self.path, str(error))
        else:
            return
        raise failure

    def _in_our_words(self, error: sqlite3.DatabaseError) -> Exception:
        # Text that is none is noticed by the module and not by SQLite: it has no code.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in _DISK_ERRORS:
            number = _DISK_ERRORS[code]
            return OSError(number, f"the journal cannot be used: {os.strerror(number)}", str(self.path))
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return JournalError(
                f"another run is writing to {self.folder}; wait for it, stop it, or choose another output folder"
            )
        return damaged(self.path, str(error))

    def _prepare(self) -> None:
        connection = self._connection
        connection.execute("PRAGMA journal_mode = WAL")
        # The default leaves a commit to the system's buffers: after a power failure `sent` would be gone.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {2 * _RESERVE_PAGES}")
        self._make_reserve()  # a disk without room for it could not take the first answer

    def _make_reserve(self) -> None:
        """Keep freed pages in the file, and so as many in the log, which is reused: a full disk still takes answers."""
        if self._connection.execute("PRAGMA freelist_count").fetchone()[0] < _RESERVE_PAGES // 2:
            self._connection.execute("INSERT INTO reserve VALUES (zeroblob(?))", [_RESERVE_PAGES * 4096])
            self._connection.execute("DELETE FROM reserve")

    def _keep_reserve(self) -> None:
        with suppress(sqlite3.DatabaseError):  # there was no room any more; what was written stays written
            self._make_reserve()

    def _check_presence(self) -> None:
        if self._identity is None:
            return
        status = self.path.stat()  # FileNotFoundError where it is gone
        if (status.st_dev, status.st_ino) != self._identity:
            raise FileNotFoundError(errno.ENOENT, "the journal was replaced while a run wrote to it", str(self.path))

    def _settle(self) -> None:
        # A single file can be looked at in a read-only folder. Not while somebody else looks into it: never mind.
        with suppress(sqlite3.DatabaseError, OSError):
            (self.folder / OPEN_NAME).unlink(missing_ok=True)
            self._connection.execute("PRAGMA journal_mode = DELETE")


def is_running(folder: Path) -> bool:
    """Tell whether a run is writing to ``folder``."""
    if not (folder / LOCK_NAME).exists():
        return False
    try:
        with _locked(folder):
            pass
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
    return False


def damaged(path: Path, why: str) -> JournalError:
    """Return the error for a journal that cannot be read."""
    return JournalError(
        f"the journal {path} cannot be read ({why}). The images are untouched. To go on, move it away and run again: "
        "a photo whose image is there already is skipped; what was paid for and not fetched is not known any more"
    )


def _refuse_links(folder: Path) -> None:
    # SQLite follows them, and would write wherever they lead.
    for end in ("", "-lock", "-open", "-wal", "-shm", "-journal"):
        if (path := folder / f"{NAME}{end}").is_symlink():
            raise JournalError(f"{path} is a link, and nothing is written through one; remove it and run again")


@contextmanager
def _locked(folder: Path, timeout: float = 0.0) -> Generator[None, None, None]:
    # A database of its own, held exclusively: the system lets go of it when the process dies, on every platform, and
    # readers of the journal are not kept out.
    _make_private(folder / LOCK_NAME)
    with _connected(folder / LOCK_NAME, timeout=timeout) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def _connected(
    path: Path | str, *, mode: str = "rwc", timeout: float = 30.0
) -> Generator[sqlite3.Connection, None, None]:
    name = f"{path.absolute().as_uri()}?mode={mode}" if isinstance(path, Path) else path
    connection = sqlite3.connect(
        name, uri=isinstance(path, Path), timeout=timeout, isolation_level=None, check_same_thread=False
    )
    try:
        yield connection
    finally:
        connection.close()


def _make_private(path: Path) -> None:
    # Signed links are for nobody else; what SQLite puts beside a file has the file's mode.
    with suppress(OSError):  # SQLite tells the same, if it is not that the file is there
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))


def _create(path: Path) -> None:
    """Make an empty journal: beside its place, so that one that is there but empty is known to have been cut."""
    new = path.with_name(f"{path.name}-new")
    # The log of a journal that was moved away would be worked into this one.
    for end in ("-wal", "-shm", "-journal", "-open", "-new", "-new-journal"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    _make_private(new)
    with _connected(new) as connection:
        connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
    new.replace(path)


def _has_lost_its_log(path: Path) -> bool:
    # SQLite takes a log that is gone, or that is none, for an empty one, and says nothing.
    if not path.with_name(OPEN_NAME).exists():
        return False
    try:
        with path.with_name(f"{path.name}-wal").open("rb") as log:
            return log.read(4) not in _LOG_MAGIC
    except FileNotFoundError:
        return True


@contextmanager
def _read(path: Path) -> Generator[sqlite3.Connection, None, None]:
    """Open a journal to look into it."""
    if _has_lost_its_log(path):
        raise JournalError(_LOG_LOST.format(path=path))
    # A log that a dead run left must be worked in first, which takes writing; beside a live run, reading must do.
    alone = path.with_name(f"{path.name}-wal").exists() and not is_running(path.parent)
    with _connected(path, mode="rw" if alone else "ro") as connection:
        _check(connection, path)
        yield connection
        if alone:  # closing makes a single file of it
            path.with_name(OPEN_NAME).unlink(missing_ok=True)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if application != _APPLICATION:
        raise damaged(path, "it is not a journal of phota_async")
    if version > _VERSION:
        raise JournalError(f"the journal {path} was written by a newer phota_async; upgrade, or choose another folder")
    if (finding := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise damaged(path, finding)
