"""The library's folder run: photos in files, a journal, links, images downloaded into files."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.work import Photo, Shape, Work
from phota_async import FolderReport, PhotaClient


@asynccontextmanager
async def opened(url: str, shape: Shape) -> AsyncGenerator[Work, None]:
    """Open a client and give what has photos enhanced; one photo for a first call, then all that the shape says."""
    base_url = f"{url}/linked/v1/phota"
    with TemporaryDirectory() as place:
        folders = iter([_photos(Path(place, "first"), 1, shape), _photos(Path(place, "all"), shape.calls, shape)])
        async with PhotaClient("key", base_url=base_url, max_concurrency=shape.concurrency, proxy="") as phota:

            async def work(_photos: Iterator[Photo]) -> None:
                folder = next(folders)
                report = await phota.enhance_folder(folder, folder / "images", num_output_images=shape.images)
                _check(report, folder / "images", shape)

            yield work


def _check(report: FolderReport, images: Path, shape: Shape) -> None:
    sizes = [path.stat().st_size for path in images.glob("*.png")]
    if report.failures or report.not_attempted or sizes != [shape.image_bytes] * report.enhanced * shape.images:
        raise ValueError(f"not every photo was enhanced: {report}, images of {sorted(set(sizes))} bytes")


def _photos(folder: Path, count: int, shape: Shape) -> Path:
    """Make photos that are all different: the same one would be bought once."""
    folder.mkdir()
    for number in range(count):
        name = b"%08d" % number
        (folder / f"{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + name + bytes(shape.photo_bytes - 4 - len(name)))
    return folder
