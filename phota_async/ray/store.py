"""The store that all workers share: a directory, or an object store by its URL. The only room that knows obstore."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from attrs import field, frozen
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, from_url

from phota_async.errors import PhotaError, without_query
from phota_async.ray.threads import in_thread

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig

logger = logging.getLogger("phota_async")

PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds between the tries to write what is paid for. An object store's client tries by itself before each of them."""

TO_WRITE = 300.0
"""Seconds in which what one request brought is written, all tries together."""

_TRIES: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}
"""What an object store's client does by itself; its own default goes on for three minutes, of each object. How long one
try may take (30 s) is the environment's to say: options that are given here would take the place of all of its."""

_UNABLE = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
"""What file systems say that flush files but no folders, such as SMB and some of FUSE."""

_SHOWN = 300


class StoreError(PhotaError):
    """The store that the workers share cannot be read or written. Nothing was sent."""


def open_store(place: str | os.PathLike[str]) -> Store:
    """Open a store.

    Args:
        place: An absolute path, or a URL such as ``s3://bucket/prefix``. Credentials and the like are the
            environment's. A directory is made where it is missing; the one it is in must be there.

    Raises:
        ValueError: It is neither.
        StoreError: It cannot be opened.
    """
    if not isinstance(place, str | os.PathLike):
        raise ValueError(f"store must be a path or a URL, not {place!r}")
    text = os.fspath(place)
    with _border("open", without_query(text)):
        path = _path(text)
        opened = from_url(text, retry_config=_TRIES) if path is None else _directory(path)
    # Each worker has a memory and a working directory of its own.
    if opened is None or isinstance(opened, MemoryStore):
        raise ValueError(f"store must be an absolute path or a URL of what all workers share, not {text!r}")
    return Store(opened)


def _path(text: str) -> Path | None:
    """Return the path that a text is or that its URL leads to; None for the URL of something else."""
    if "://" not in text:
        return Path(text)
    url = urlsplit(text.strip())  # obstore strips a URL as well
    return Path(url2pathname(url.path)) if url.scheme == "file" and url.netloc in {"", "localhost"} else None


def _directory(path: Path) -> LocalStore | None:
    """Open a directory; return None for a relative path. Blocks.

    Raises:
        StoreError: The one it is in is missing. It is not made: where a shared folder is not mounted, the worker would
            have a store of its own, and buy everything again.
    """
    if not path.is_absolute():
        return None
    if not path.parent.is_dir():
        raise StoreError(
            f"the store cannot open {path}: there is no {path.parent}; is a shared folder not mounted here?"
        )
    path.mkdir(0o700, exist_ok=True)  # it holds photos and links
    return LocalStore(path)


@frozen(eq=False)
class Store:
    """Objects by name: each is written whole or not at all.

    Attributes:
        objects: What obstore knows it as.
        pauses: Seconds between the tries to write what is paid for.
    """

    objects: ObjectStore
    pauses: tuple[float, ...] = field(default=PAUSES, kw_only=True)

    def probe(self) -> None:
        """Make sure that it writes an object only if there is none, without which everything is bought twice. Blocks.

        Raises:
            StoreError: It does not, or cannot be written.
        """
        name = f"probe-{uuid.uuid4().hex}"
        with _border("write", name):
            self.objects.put(name, b"", mode="create")
            try:
                self.objects.put(name, b"", mode="create")
            except AlreadyExistsError:
                return
            finally:
                with suppress(BaseError, OSError):  # a store may let nothing be deleted
                    self.objects.delete(name)
        raise StoreError("the store must write an object only if there is none of that name, and this one does not")

    async def names(self, folder: str) -> list[str]:
        """Return the names of the objects in a folder, without the folder.

        Raises:
            StoreError: They cannot be listed.
        """
        with _border("list", folder):
            objects: Any = self.objects  # whose type is partly that of an Arrow table
            listed: list[dict[str, Any]] = (await objects.list_with_delimiter_async(folder))["objects"]
            return [one["path"].removeprefix(f"{folder}/") for one in listed]

    async def get(self, name: str) -> bytes | None:
        """Return an object, or None if there is none of that name.

        Raises:
            StoreError: It cannot be read.
        """
        with _border("read", name), suppress(FileNotFoundError):
            answer = await self.objects.get_async(name)
            return bytes(await answer.bytes_async())
        return None

    async def create(self, name: str, content: bytes) -> bool:
        """Write an object if there is none of that name, and tell whether there was none. Of many one succeeds.

        Raises:
            StoreError: It cannot be written.
        """
        with _border("write", name):
            try:
                await self.objects.put_async(name, content, mode="create")
            except AlreadyExistsError:
                return False
            await self._sync(name)
            return True

    async def put(self, name: str, content: bytes) -> None:
        """Write an object, in the place of one that is there.

        Raises:
            StoreError: It cannot be written.
        """
        with _border("write", name):
            await self.objects.put_async(name, content, use_multipart=False)
            await self._sync(name)

    async def put_surely(self, name: str, content: bytes) -> None:
        """Write what is paid for: a store that does not take it is tried again.

        Raises:
            StoreError: It cannot be written.
        """
        for pause in self.pauses:
            try:
                return await self.put(name, content)
            except StoreError as error:
                logger.warning("%s; tried again in %.1f s", error, pause)
            await asyncio.sleep(pause)
        return await self.put(name, content)

    async def _sync(self, name: str) -> None:
        # An object store answers when it is safe; a directory does not, and a claim must outlive the machine's power.
        root = self.objects.prefix if isinstance(self.objects, LocalStore) else None
        if root is not None:
            await in_thread(_sync, root, name)


def _sync(root: Path, name: str) -> None:
    """Wait until a file, and the folders that name it, are on the disk. Blocks."""
    file = PurePosixPath(name)
    _flush(root / file)
    for folder in file.parents:
        try:
            _flush(root / folder)
        except OSError as error:
            if error.errno not in _UNABLE:
                raise


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _border(verb: str, name: str) -> Generator[None]:
    try:
        yield
    except (BaseError, OSError, NotImplementedError, ValueError) as error:  # of a URL, obstore raises a bare ValueError
        # Of many lines; the first one says it, and may hold a signed URL.
        words = re.sub(r"\?\S*", "", str(error).split("\n", 1)[0])[:_SHOWN]
        failure = StoreError(f"the store cannot {verb} {name}: {words}")
    else:
        return
    try:
        raise failure
    finally:
        del failure  # its traceback leads here, to what was being written
