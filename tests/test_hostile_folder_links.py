"""Folder runs from a server that lies about what was bought: no half image, nothing bought twice, nothing lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen
from folder_runs import counts, make, standing
from hostile import key_is_where_it_belongs, nothing_left
from hostile_downloads import (
    IMAGE,
    OTHER,
    SIGNATURE,
    TAG,
    cut,
    free_of_credentials,
    link,
    part,
    png,
    raw,
    redirect,
    serving,
)
from raw_server import RawServer, Script, Wire, answer, answering, client, good_body

from phota_async import FolderReport, PhotaClient, RetryPolicy, Timeout

TWICE = RetryPolicy(initial_wait=0, max_attempts=2)
CHUNKED = "HTTP/1.1 200 OK\nContent-Type: image/png\nTransfer-Encoding: chunked"
NO_PROBLEM: dict[str, int] = {"enhanced": 1}


def selling(*links: str) -> Script:
    """Answer a POST with these links, or with one to this server."""

    async def script(wire: Wire) -> None:
        await wire.request()
        urls = list(links) or [link(wire.server)]
        await wire.send(answer(good_body(images=[], download_urls=urls)))

    return script


async def stalling(wire: Wire) -> None:
    await wire.request()
    await wire.send(png()[:-9])
    await wire.gone()


@frozen(kw_only=True)
class Case:
    """What the server does to the download, and what the first run makes of it."""

    serve: Script | Sequence[Script]
    comes_to: str = "failed"
    options: dict[str, Any] = field(factory=dict[str, Any])

    @property
    def scripts(self) -> tuple[Script, ...]:
        return (self.serve,) if callable(self.serve) else tuple(self.serve)


CASES = {
    "a cut": Case(serve=cut(5000)),
    "a cut where resuming would go on": Case(serve=[cut(5000, TAG), cut(5000, TAG)]),
    "a reset": Case(serve=cut(5000, reset=True)),
    "another part": Case(serve=[cut(5000, TAG), part(6000)]),
    "another file's part": Case(serve=[cut(5000, TAG), part(5000, {}, body=OTHER)]),
    "a part that is compressed": Case(serve=[cut(5000, TAG), part(5000, {**TAG, "Content-Encoding": "gzip"})]),
    "half a body in a coding that hides its end": Case(
        serve=raw("HTTP/1.1 200 OK\nContent-Type: image/png\nTransfer-Encoding: gzip", IMAGE[:5000])
    ),
    "half a body without a length": Case(serve=raw("HTTP/1.1 200 OK\nContent-Type: image/png", IMAGE[:5000])),
    "chunks that end early": Case(serve=raw(CHUNKED, b"1388\r\n" + IMAGE[:5000] + b"\r\n")),
    "more than the length": Case(serve=raw("HTTP/1.1 200 OK\nContent-Length: 5000", IMAGE)),
    "compressed": Case(serve=answering(png(IMAGE, 200, {"Content-Encoding": "gzip"}))),
    "HTML": Case(serve=answering(answer(b"<html>", kind="text/html"))),
    "nothing": Case(serve=answering(png(b""))),
    "nothing at all": Case(serve=answering(b"")),
    "longer than allowed": Case(serve=answering(png()), options={"max_response_bytes": 9000}),
    "a stall": Case(serve=stalling, options={"timeout": Timeout(attempt=0.15)}),
    "no room": Case(serve=answering(answer(b"", 503, {"Retry-After": "soon"}))),
    "expired": Case(serve=answering(answer(b"<Error/>", 403)), comes_to="unknown"),
    "a redirect to a private address": Case(serve=redirect("https://169.254.169.254/latest/meta-data/")),
    "a redirect to a file": Case(serve=redirect("file:///etc/passwd")),
    "a redirect to no host": Case(serve=redirect("https://a..example.com/")),
    "redirects without end": Case(serve=redirect("/files/a.png")),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_what_a_server_lies_about_is_fetched_by_the_next_run_and_never_bought_again(
    case: Case, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    options: dict[str, Any] = {"retry": TWICE, "max_concurrency": 1}
    async with nothing_left(caplog, tmp_path), RawServer(selling(), *watched(output, case.scripts)) as server:
        async with client(server, **{**options, **case.options}) as phota:
            report = await phota.enhance_folder(source, output)
        assert (counts(report), report.spent_usd, standing(output)) == ({case.comes_to: 1}, 0.12, {})
        server.then(serving())
        async with client(server, **options) as phota:
            await ends_well(phota, source, output)
        check_requests(server)


async def ends_well(phota: PhotaClient, source: Path, output: Path) -> None:
    again = await phota.enhance_folder(source, output, retry_unknown=True)
    assert (counts(again), again.spent_usd, standing(output)) == (NO_PROBLEM, 0.0, {"a.png": IMAGE})
    last = await phota.enhance_folder(source, output, retry_unknown=True)
    assert (counts(last), standing(output)) == ({"skipped": 1}, {"a.png": IMAGE})


def watched(output: Path, scripts: Sequence[Script]) -> list[Script]:
    """Look at the folder before each answer: nothing may stand there under a final name."""

    def looking(script: Script) -> Script:
        async def look(wire: Wire) -> None:
            assert shown(output) == []
            await script(wire)

        return look

    return [looking(script) for script in scripts]


def shown(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith(".phota-")]


def check_requests(server: RawServer) -> None:
    """One purchase, the first thing of all; whatever came after it was free and had nothing of the account."""
    assert [number for number, request in enumerate(server.begun) if request.method == "POST"] == [0]
    assert all(free_of_credentials(request) for request in server.begun[1:])
    key_is_where_it_belongs(server)


LINKS: dict[str, Callable[[RawServer], str]] = {
    "a private address": lambda _: f"https://10.0.0.1/a.png?signature={SIGNATURE}",
    "an address in other digits": lambda server: f"https://2130706433:{server.port}/a.png?signature={SIGNATURE}",
    "another port of the own host": lambda _: f"http://127.0.0.1:9/a.png?signature={SIGNATURE}",
    "a file": lambda _: "file:///etc/passwd",
    "data": lambda _: "data:image/png;base64,iVBORw0KGgo=",
    "a host that is none": lambda _: f"https://a..example.com/a.png?signature={SIGNATURE}",
    "a port that is none": lambda _: f"https://example.com:99999/a.png?signature={SIGNATURE}",
    "nothing": lambda _: "a.png",
}


@pytest.mark.parametrize("place", LINKS.values(), ids=LINKS)
async def test_a_link_that_is_not_followed_is_never_bought_again(
    place: Callable[[RawServer], str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"

    async def sold(wire: Wire) -> None:
        await selling(place(wire.server))(wire)

    async with nothing_left(caplog, tmp_path), RawServer(sold) as server, client(server, retry=TWICE) as phota:
        for spent in (0.12, 0.0):
            report = await phota.enhance_folder(source, output)
            check_refusal(report)
            assert (report.spent_usd, standing(output)) == (spent, {})
        assert [request.method for request in server.begun] == ["POST"]


def check_refusal(report: FolderReport) -> None:
    assert counts(report) == {"failed": 1}
    (one,) = report.failures
    assert one.kind == "DownloadError"
    assert one.reason.startswith("paid for, but not fetched yet")
    assert SIGNATURE not in one.reason


async def test_one_of_two_images_that_is_cut_keeps_neither_from_being_fetched(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"

    async def sold(wire: Wire) -> None:
        await selling(link(wire.server), link(wire.server))(wire)

    async with (
        nothing_left(caplog, tmp_path),
        RawServer(sold, serving(), cut(5000)) as server,
        client(server, retry=TWICE) as phota,
    ):
        report = await phota.enhance_folder(source, output, num_output_images=2)
        assert (counts(report), report.spent_usd) == ({"failed": 1}, 0.24)
        assert standing(output) == {"a-1.png": IMAGE}
        server.then(serving())
        report = await phota.enhance_folder(source, output, num_output_images=2)
        assert (counts(report), report.spent_usd) == (NO_PROBLEM, 0.0)
        assert standing(output) == {"a-1.png": IMAGE, "a-2.png": IMAGE}
        check_requests(server)
