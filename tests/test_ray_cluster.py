"""A real Ray: 500 photos, a worker killed in the middle, a directory or an S3 server. Nothing is bought twice."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
from ray_workers import KEY, small_photo

from phota_async.ray.store import Store, open_store
from phota_async.sandbox import Sandbox

pytest.importorskip("ray", reason="Ray is not installed: pip install --group cluster")
moto: Any = pytest.importorskip("moto.server", reason="moto is not installed: pip install --group cluster")
boto3: Any = pytest.importorskip("boto3")

PIPELINE = Path(__file__).with_name("ray_pipeline.py")
README = Path(__file__).parent.parent / "README.md"
CREDENTIALS = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
PHOTOS = 500
WIDTH = 8

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """An S3 server, as the variables that lead to it."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells every request
    try:
        yield {
            "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()),
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_REGION": "us-east-1",
        }
    finally:
        server.stop()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(PHOTOS):
        (folder / f"{number:03}.png").write_bytes(small_photo(number))
    return folder


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox(long_edge=16, latency=0.2) as opened:
        yield opened


@pytest.fixture
def folder() -> Iterator[str]:
    # Not pytest's: the sockets of Ray are in it, whose paths may not be long.
    with tempfile.TemporaryDirectory(prefix="r") as made:
        yield made


@pytest.fixture(params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the workers have their store."""
    if request.param == "directory":
        return str(tmp_path / "store")
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=s3["AWS_ENDPOINT_URL"], **CREDENTIALS).create_bucket(Bucket="bucket")
    return "s3://bucket/enhanced"


def enhanced(photos: Path, folder: str, box: Sandbox, place: str, **options: Any) -> list[dict[str, Any]]:
    """Run the pipeline, and return its rows."""
    job: dict[str, Any] = {
        "photos": str(photos),
        "folder": folder,
        "batch_size": 4 * WIDTH,
        "workers": 2,
        "enhance": {"store": place, "base_url": box.url, "max_concurrency": WIDTH, "patience": 3.0, **options},
    }
    printed = ran([str(PIPELINE), json.dumps(job)], {})
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def ran(arguments: list[str], variables: dict[str, str]) -> str:
    """Run Python with a Ray of its own, and return what it prints."""
    # Coverage is the business of the tests that need no cluster; it would be measured in each of Ray's processes.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    own = {
        "PHOTA_API_KEY": KEY,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    }
    with subprocess.Popen(  # noqa: S603
        [sys.executable, *arguments],
        env={**environment, **own, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            printed, told = process.communicate(timeout=120)
        finally:
            # Where a driver does not end by itself, its Ray would go on.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, told[-3000:]
    return printed


async def _claims(store: Store) -> list[tuple[str, dict[str, Any]]]:
    """Every claim of a photo that has no record, with its folder."""
    objects: Any = store.objects
    listed: list[str] = [one["path"] async for page in objects.list() for one in page]
    ended = {path.rpartition("/")[0] for path in listed if re.search(r"/record-\d+\.json$", path)}
    claims: list[tuple[str, dict[str, Any]]] = []
    for path in listed:
        folder, _, name = path.rpartition("/")
        if folder not in ended and re.fullmatch(r"claim-\d+\.json", name):
            content = await store.get(path)
            claims.append((folder, json.loads(content or b"{}")))
    return claims


def in_flight(place: str) -> dict[int, set[str]]:
    """What each worker process has claimed and not recorded, by its id."""
    held: dict[int, set[str]] = {}
    for folder, claim in asyncio.run(_claims(open_store(place))):
        if claim["state"] == "sent":
            held.setdefault(int(claim["by"].split()[-1]), set()).add(folder)
    return held


class Killer:
    """Kills one worker, without a word, when so many photos are charged and it has several in flight."""

    def __init__(self, box: Sandbox, place: str, after: int) -> None:
        self.lost: set[str] = set()
        self._box, self._place, self._after = box, place, after
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._box.ledger.wait(lambda ledger: ledger.charged_images >= self._after, timeout=90)
        while not self.lost and not self._over.is_set():
            for pid in in_flight(self._place):
                if self._holds_several(pid):
                    return

    def _holds_several(self, pid: int) -> bool:
        # Stopped, so that what is seen is what is lost.
        os.kill(pid, signal.SIGSTOP)
        held = in_flight(self._place).get(pid, set())
        if len(held) > 1:
            os.kill(pid, signal.SIGKILL)
            self.lost = held
        else:
            os.kill(pid, signal.SIGCONT)
        return len(held) > 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def charged_twice(box: Sandbox) -> set[str]:
    return {sha256 for sha256, times in box.ledger.charges.items() if times > 1}


def photos_of(folders: set[str]) -> set[str]:
    """The SHA-256 of the photos that these folders of the store are of."""
    return {folder.rpartition("/")[2].partition("-")[0] for folder in folders}


def test_a_killed_worker_costs_what_it_had_in_flight_and_all_is_delivered(
    place: str, photos: Path, folder: str, box: Sandbox
) -> None:
    with Killer(box, place, after=150) as killer:
        rows = enhanced(photos, folder, box, place)
    assert 1 < len(killer.lost) <= 2 * WIDTH  # in flight, or answered and not written yet
    # Not one is bought again, and what is not known is told.
    states = Counter(row["state"] for row in rows)
    assert states == {"enhanced": PHOTOS - len(killer.lost), "unknown": len(killer.lost)}
    assert {row["key"] for row in rows if row["state"] == "unknown"} == killer.lost
    assert all(row["image"].startswith("89504e47") for row in rows if row["state"] == "enhanced")
    assert len({row["path"] for row in rows}) == PHOTOS
    assert charged_twice(box) == set()
    # The same again: what is unknown is bought, and nothing else.
    before = len(box.ledger.requests)
    again = enhanced(photos, folder, box, place, retry_unknown=True)
    assert Counter(row["state"] for row in again) == {"enhanced": PHOTOS}
    assert len(box.ledger.requests) == before + len(killer.lost)
    assert charged_twice(box) <= photos_of(killer.lost)
    assert PHOTOS <= box.ledger.charged_images <= PHOTOS + len(killer.lost)


def test_who_buys_again_what_is_unknown_gets_all_at_once(
    photos: Path, folder: str, box: Sandbox, tmp_path: Path
) -> None:
    place = str(tmp_path / "store")
    with Killer(box, place, after=150) as killer:
        rows = enhanced(photos, folder, box, place, retry_unknown=True)
    assert 1 < len(killer.lost) <= 2 * WIDTH  # in flight, or answered and not written yet
    assert Counter(row["state"] for row in rows) == {"enhanced": PHOTOS}
    assert len({row["path"] for row in rows}) == PHOTOS
    assert charged_twice(box) <= photos_of(killer.lost)
    assert box.ledger.charged_images <= PHOTOS + len(killer.lost)


def test_the_readmes_pipeline_runs_as_it_stands(box: Sandbox, folder: str, s3: dict[str, str], photos: Path) -> None:
    (block,) = re.findall(r"^```python\n([^`]*phota_async\.ray[^`]*)^```", README.read_text(), flags=re.MULTILINE)
    client: Any = boto3.client("s3", endpoint_url=s3["AWS_ENDPOINT_URL"], **CREDENTIALS)
    client.create_bucket(Bucket="my-bucket")
    for path in sorted(photos.iterdir())[:5]:
        client.upload_file(str(path), "my-bucket", f"photos/{path.name}")
    environment = {**s3, "PHOTA_BASE_URL": box.url, "RAY_TMPDIR": folder}
    ran(["-c", block], environment)
    listed = [one["Key"] for one in client.list_objects_v2(Bucket="my-bucket")["Contents"]]
    assert any(re.fullmatch(r"enhanced/\w.*\.parquet", one) for one in listed)
    assert box.ledger.charged_images == sum(one.endswith("/record-1.json") for one in listed) == 5
