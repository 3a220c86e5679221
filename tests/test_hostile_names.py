"""Names in links: judged by every address they have, at the very look-up that is connected by."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from closed_net import Net, Ways, closed_net, refused, to
from hostile_downloads import IMAGE, Case, lasting, png, redirect, run
from raw_server import KEY, RawServer, answering, client

from phota_async import DownloadError, PhotaClient, RetryPolicy

WHOLE = answering(png())
PUBLIC = "93.184.216.34"
NOT_PUBLIC = "an address that is not public"


@pytest.fixture(autouse=True)
def net() -> Iterator[Net]:
    with closed_net() as made:
        yield made


@pytest.fixture
def ways(net: Net, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> Ways:
    return Ways(net, caplog, tmp_path)


PRIVATE = {
    "loopback": ["127.0.0.1"],
    "loopback, IPv6": ["::1"],
    "private": ["10.0.0.1"],
    "the cloud's metadata": ["169.254.169.254"],
    "unspecified": ["0.0.0.0"],  # noqa: S104  (that is what is refused)
    "link-local, IPv6": ["fe80::1"],
    "mapped": ["::ffff:127.0.0.1"],
    "mapped, in hexadecimal": ["::ffff:7f00:1"],
    "NAT64": ["64:ff9b::7f00:1"],
    "6to4": ["2002:7f00:1::"],
    "a public and a private one": [PUBLIC, "10.0.0.1"],
    "a private and a public one": ["10.0.0.1", PUBLIC],
    "public in IPv4, private in IPv6": [PUBLIC, "::1"],
}


@pytest.mark.parametrize("by", ["link", "redirect"])
@pytest.mark.parametrize("addresses", PRIVATE.values(), ids=PRIVATE)
async def test_a_name_that_leads_to_a_private_address_is_not_followed(
    addresses: list[str], by: str, ways: Ways
) -> None:
    ways.net.names["cdn.example"] = [addresses]
    await ways.meet(by, "https://cdn.example/a.png", NOT_PUBLIC)
    assert ways.net.asked == ["cdn.example"]


@pytest.mark.parametrize(
    "name", ["localhost", "LOCALHOST", "localhost.", "127.0.0.1.nip.example", "b\u00fccher.example"]
)
async def test_a_name_is_judged_by_its_address_however_it_is_spelled(
    name: str, caplog: pytest.LogCaptureFixture, net: Net
) -> None:
    net.names = {spelled: [["127.0.0.1"]] for spelled in ("localhost", "localhost.", "127.0.0.1.nip.example")}
    net.names["xn--bcher-kva.example"] = [["127.0.0.1"]]
    await run(refused(NOT_PUBLIC), caplog, None, url=to(f"https://{name}:9/a.png"))
    assert len(net.asked) == 1


async def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    caplog: pytest.LogCaptureFixture, net: Net
) -> None:
    net.names["cdn.example"] = [[PUBLIC], ["127.0.0.1"]]
    case = lasting(WHOLE, requests=0, says="cannot connect to cdn.example")
    await run(case, caplog, None, url=to("https://cdn.example/a.png"))
    assert set(net.tried[:-1]) == {PUBLIC}
    net.tried.clear()
    await run(refused(NOT_PUBLIC), caplog, None, url=to("https://cdn.example/a.png"))
    assert net.tried == ["127.0.0.1"]  # the POST that shows the slot free


async def test_a_name_that_turns_private_between_two_attempts_is_not_followed(
    caplog: pytest.LogCaptureFixture, net: Net
) -> None:
    # Each of the ports is a look-up of its own.
    net.names["cdn.example"] = [[PUBLIC], ["10.0.0.1"]]
    serve = [redirect("https://cdn.example:1/"), redirect("https://cdn.example:2/")]
    case = Case(serve=serve, requests=2, says=NOT_PUBLIC)
    await run(case, caplog, None)
    assert net.tried == ["127.0.0.1", PUBLIC, "127.0.0.1", "127.0.0.1"]


async def test_a_name_that_is_not_known_is_asked_again(caplog: pytest.LogCaptureFixture, net: Net) -> None:
    case = lasting(WHOLE, requests=0, says="cannot resolve cdn.example")
    await run(case, caplog, None, url=to("https://cdn.example/a.png"))
    assert net.asked == ["cdn.example"] * 3


async def test_many_downloads_of_one_forbidden_name_are_all_refused(net: Net) -> None:
    net.names["cdn.example"] = [["10.0.0.1"]]
    async with PhotaClient(KEY) as phota:
        downloads = [phota.download("https://cdn.example/a.png") for _ in range(20)]
        failures = await asyncio.gather(*downloads, return_exceptions=True)
    assert {str(failure).partition(":")[0] for failure in failures} == {"cdn.example has an address that is not public"}
    assert {type(failure) for failure in failures} == {DownloadError}
    assert net.tried == []


async def test_the_own_host_is_followed_by_name_and_no_other_of_its_address(net: Net) -> None:
    net.names = {name: [["127.0.0.1"]] for name in ("own.example", "other.example")}
    once = RetryPolicy(max_attempts=1)
    async with (
        RawServer(WHOLE) as server,
        PhotaClient(KEY, base_url=f"http://own.example:{server.port}", allow_http=True, retry=once) as phota,
    ):
        assert (await phota.download(f"http://own.example:{server.port}/a.png")).data == IMAGE
        assert (await phota.download(f"HTTP://OWN.example:{server.port}/a.png")).data == IMAGE
        for other in (f"http://other.example:{server.port}", f"https://other.example:{server.port}"):
            with pytest.raises(DownloadError):
                await phota.download(f"{other}/a.png")
        with pytest.raises(DownloadError, match=NOT_PUBLIC):  # what else that machine serves is not the API's
            await phota.download(f"https://own.example:{server.port + 1}/a.png")
        assert len(server.begun) == 2


async def test_a_link_leads_to_no_proxy(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    net.names = {"proxy.example": [["127.0.0.1"]]}
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:9")
    monkeypatch.setenv("NO_PROXY", "proxy.example")
    async with PhotaClient(KEY) as phota:
        with pytest.raises(DownloadError, match="the link leads to a proxy"):
            await phota.download("https://PROXY.example:9/a.png")
        with pytest.raises(DownloadError, match=NOT_PUBLIC):
            await phota.download("https://proxy.example:10/a.png")
    assert net.tried == []


async def test_a_copys_own_host_is_followed_by_name(net: Net) -> None:
    net.names = {"copy.example": [["127.0.0.1"]]}
    async with RawServer(WHOLE) as server, client(server) as phota:
        url = f"http://copy.example:{server.port}"
        copy = phota.with_options(base_url=url, allow_http=True)
        assert (await copy.download(f"{url}/a.png")).data == IMAGE
        with pytest.raises(DownloadError, match="only https links"):
            await phota.download(f"{url}/a.png")
