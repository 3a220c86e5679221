"""Images on their way into the output folder: fetched or copied beside their place, and put there whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path, PurePath

from attrs import field, frozen

from phota_async.errors import JournalError
from phota_async.fetch import Fetcher, discarded
from phota_async.files import Partial, clear, is_image, make_folders
from phota_async.folder.recorder import Recorder
from phota_async.formats import EXTENSIONS, media_type
from phota_async.journal import NAME, Claim, Journal, Occupied, Reserved, names
from phota_async.models import EnhancedImage
from phota_async.naming import plainer
from phota_async.threads import in_thread

MARK = "run-"
"""What an unfinished file of a folder run has in its name, so that another program's is left alone."""

_MACHINE = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EFBIG", "ENODEV", "ENXIO", "ESTALE", "EMFILE", "ENFILE", "ENOMEM")
    if hasattr(errno, name)
)

_BAD_NAME = frozenset({errno.EINVAL, errno.ENAMETOOLONG, errno.EILSEQ})

Fill = Callable[[Partial], Awaitable[None]]


@frozen(eq=False)
class Outputs:
    """The images of one output folder."""

    folder: Path
    fetcher: Fetcher
    recorder: Recorder
    _tried: set[PurePath] = field(init=False, factory=set[PurePath])

    async def reserve(self, claim: Claim, *, paid: bool = False) -> Reserved | Occupied:
        """Get names for a photo's images, and make their folders; see `phota_async.journal.names.reserve`.

        Raises:
            OSError: A folder cannot be made, or takes no files.
        """
        reserved = await self.recorder.write(names.reserve(self.folder, claim, paid=paid))
        if isinstance(reserved, Reserved):
            await in_thread(self._try_folder, reserved.names[0].parent)
        return reserved

    def _try_folder(self, below: PurePath) -> None:
        folder = make_folders(self.folder, below)
        if below not in self._tried:
            # A sub-folder may have rules of its own; found out now, that costs nothing.
            try_to_write(folder)
            self._tried.add(below)

    async def fetch(self, claim: Claim, reserved: Sequence[PurePath], links: Iterable[str]) -> list[Path]:
        """Fetch links under the names reserved, write that the item is done, and return the files.

        Raises:
            DownloadError: A link cannot be fetched.
            OSError: A file cannot be written.
        """
        return await self._fill(claim, reserved, [self._fetching(link) for link in links])

    async def keep(
        self, claim: Claim, reserved: Sequence[PurePath], images: Iterable[EnhancedImage], *, done: bool = True
    ) -> list[Path]:
        """Write images that came where links were asked for; without ``done`` the item is not. Otherwise as `fetch`."""
        return await self._fill(claim, reserved, [_writing(image) for image in images], done=done)

    async def copy(self, claim: Claim, reserved: Sequence[PurePath], originals: Iterable[str]) -> list[Path]:
        """Copy the images of a photo with the same bytes; otherwise as `fetch`."""
        return await self._fill(claim, reserved, [_copying(self.folder / original) for original in originals])

    async def placed(self, claim: Claim, reserved: Sequence[PurePath]) -> list[Path]:
        """Return the files, and write that the item is done, if images stand under all the names reserved."""
        paths = [self.folder / name for name in reserved]
        if not await in_thread(lambda: all(map(is_image, paths))):
            return []
        await self.recorder.write(names.place(claim, reserved))
        return paths

    def _fetching(self, link: str) -> Fill:
        async def fill(partial: Partial) -> None:
            await self.fetcher.into(link, partial)

        return fill

    async def _fill(
        self, claim: Claim, reserved: Sequence[PurePath], fills: Sequence[Fill], *, done: bool = True
    ) -> list[Path]:
        placed: list[PurePath] = []
        for number, fill in enumerate(fills):
            # More images than were asked for are paid for all the same.
            name = reserved[number] if number < len(reserved) else await self._another(claim, reserved[-1])
            placed.append(await self._put(claim, name, fill))
        await self.recorder.write(names.place(claim, placed, done=done))
        return [self.folder / name for name in placed]

    async def _put(self, claim: Claim, name: PurePath, fill: Fill) -> PurePath:
        folder = await in_thread(make_folders, self.folder, name.parent)
        async with discarded(Partial(folder / name.name, MARK)) as partial:
            await fill(partial)
            fitting = await in_thread(_fitting, partial, name)
            if claim.overwrite and fitting == name:
                await in_thread(partial.finish)
                return name
            return await self._finish(claim, partial, fitting)

    async def _finish(self, claim: Claim, partial: Partial, name: PurePath) -> PurePath:
        try:
            while not await in_thread(partial.finish_new, self.folder / name):
                name = await self._another(claim, name)
        except OSError as error:
            if error.errno not in _BAD_NAME or (plain := plainer(name)) == name:
                raise
            # The disk does not take such names. What is paid for gets one that every disk takes.
            return await self._finish(claim, partial, plain)
        return name

    async def _another(self, claim: Claim, name: PurePath) -> PurePath:
        return await self.recorder.write(names.free_name(self.folder, claim, name))

    async def is_to_blame(self, error: OSError | JournalError) -> bool:
        """Tell whether the disk, the folder as a whole or the journal is the matter, and not one file's place."""
        if isinstance(error, JournalError) or error.errno in _MACHINE or str(error.filename) == str(self.folder / NAME):
            return True
        return not await in_thread(_takes_files, self.folder)


def _copying(original: Path) -> Fill:
    async def fill(partial: Partial) -> None:
        await in_thread(partial.copy, original)

    return fill


def _writing(image: EnhancedImage) -> Fill:
    async def fill(partial: Partial) -> None:
        await in_thread(partial.write, 0, image.data)

    return fill


def _fitting(partial: Partial, name: PurePath) -> PurePath:
    """Return ``name`` with the extension that fits what came, where that is another than was asked for. Blocks."""
    fits = EXTENSIONS.get(media_type(partial.head()) or "", ".bin")
    return name.with_suffix(fits)


def try_to_write(folder: Path) -> None:
    """See that a file can be made in ``folder``. Blocks.

    Raises:
        OSError: None can.
    """
    with Partial(folder / "probe", MARK) as partial:
        partial.write(0, b"")


def _takes_files(folder: Path) -> bool:
    try:
        try_to_write(folder)
    except OSError:
        return False
    return True


def clear_leftovers(journal: Journal, below: Iterable[bytes]) -> None:
    """Remove what a dead run left without its name. Blocks."""
    for relative in below:
        clear(journal.folder, PurePath(os.fsdecode(relative)), MARK)
