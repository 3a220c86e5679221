"""Where a link may lead: to the API's own host or to a public one over https, in whatever spelling and by whatever way.

No socket may even try another address; that is looked at where sockets connect.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from closed_net import Net, Ways, closed_net
from hostile_downloads import IMAGE, TAG, Case, cut, good, part, png, redirect, run
from raw_server import KEY, RawServer, Script, answer, answering, client

from phota_async import DownloadError, PhotaClient, RetryPolicy

WHOLE = answering(png())


@pytest.fixture(autouse=True)
def net() -> Iterator[Net]:
    with closed_net() as made:
        yield made


@pytest.fixture
def ways(net: Net, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> Ways:
    return Ways(net, caplog, tmp_path)


NOT_PUBLIC = "an address that is not public"
SCHEME = "only https links, or links to the API's own host, are followed"

ADDRESSES = [
    "127.0.0.1:9",
    "127.0.0.1:{port}",
    "127.255.255.254",
    "127.1",
    "127.0.1",
    "0x7f.1",
    "0177.0.0.1",
    "0177.0x0.0.01",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0X7F000001",
    "0",
    "0.0.0.0",  # noqa: S104  (that is what is refused)
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "0xa9fea9fe",
    "2852039166",
    "169.254.43518",
    "0251.0376.0251.0376",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "127.0.0.1.",
    "10.0.0.1.:443",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
    "\u2460\u2461\u2466.0.0.1",
    "127\u30020\u30020\u30021",
    "[::1]",
    "[::1]:8443",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:0:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::10.0.0.1]",
    "[2002:7f00:1::]",
    "[2001:0:808:808:0:0:80ff:fffe]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fec0::1]",
    "[ff02::1]",
    "[2001:db8::1]",
]


@pytest.mark.parametrize("address", ADDRESSES)
async def test_no_spelling_of_an_address_leads_where_it_is_not_public(address: str, ways: Ways) -> None:
    await ways.meet("link", f"https://{address}/a.png", NOT_PUBLIC)


@pytest.mark.parametrize("address", ADDRESSES[::5])
async def test_no_redirect_leads_to_an_address_that_is_not_public(address: str, ways: Ways) -> None:
    await ways.meet("redirect", f"https://{address}/a.png", NOT_PUBLIC)


SCHEMES = [
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "ftp://127.0.0.1/a.png",
    "data:image/png;base64,iVBORw0KGgo=",
    "javascript:alert(1)",
    "gopher://127.0.0.1:9/",
    "ws://127.0.0.1:9/",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun/x",
    "http://example.com/a.png",
    "HTTP://EXAMPLE.com/a.png",
    "http://127.0.0.1:9/a.png",
    "http://localhost:{port}/a.png",
    "http://127.1:{port}/a.png",
    "http://127.0.0.1.:{port}/a.png",
    "http://[::ffff:127.0.0.1]:{port}/a.png",
    "http://user@127.0.0.1:{port}@169.254.169.254/",
    "https:///a.png",
    "https://[::1",
    "https://[::1]x/",
    "https://127.0.0.1:99999/",
    "http://127.0.0.1:99999/",
    "https://example.com:x/",
    "https://example.com:-1/",
    "https://exa mple.com/",
    "https://" + "a" * 64 + ".example.com/",
    "https://a..example.com/",
    "https://.example.com/",
    "https://xn--/",
    "https://xn--a-/",
    "https:\\\\127.0.0.1\\",
]


@pytest.mark.parametrize("by", ["link", "redirect"])
@pytest.mark.parametrize("place", SCHEMES)
async def test_a_link_of_another_kind_is_not_followed(place: str, by: str, ways: Ways) -> None:
    await ways.meet(by, place, SCHEME)
    assert ways.net.asked == []


@pytest.mark.parametrize("by", ["link", "redirect"])
@pytest.mark.parametrize("user", ["user", "user:word", ":word", "127.0.0.1", "user:a@b"])
async def test_a_link_with_a_user_name_is_not_followed(user: str, by: str, ways: Ways) -> None:
    await ways.meet(by, f"https://{user}@example.com/a.png", "a link with a user name is not followed")
    assert ways.net.asked == []


@pytest.mark.parametrize("odd", ["", "a.png", "/files/a.png", "C:\\a.png", "//example.com/a.png", "https://\udcff/"])
async def test_what_is_no_link_is_a_download_error(odd: str) -> None:
    async with PhotaClient(KEY, retry=RetryPolicy(max_attempts=1)) as phota:
        with pytest.raises(DownloadError, match="only https links"):
            await phota.download(odd)


# ---- redirects on the own host


def chain_of(count: int) -> list[Script]:
    return [redirect(f"/next?n={number}") for number in range(count)]


LEADS_ON = {
    **{f"{code}": good(redirect("b.png", code), WHOLE) for code in (301, 302, 303, 307, 308)},
    "five": good(*chain_of(5), WHOLE),
    "to itself, then well": good(redirect(""), WHOLE),
    "up and round": good(redirect("../../x/./y/../a.png?b=%2F"), WHOLE),
    "with a fragment": good(redirect("/a.png#part"), WHOLE),
    "with spaces": good(redirect("/a b\tc.png"), WHOLE),
    "in other letters": good(redirect("/b\u00fccher.png"), WHOLE),
    "between two parts": good(redirect("/a"), cut(1000, TAG), redirect("/b"), part(1000)),
}
ROUND = "more than 5 redirects"
IN_CIRCLES = {
    "six": Case(serve=[*chain_of(6), WHOLE], requests=6, says=ROUND),
    "for ever": Case(serve=redirect("/files/a.png"), requests=6, says=ROUND),
    "to and fro": Case(serve=[redirect("/a"), redirect("/b")] * 3, requests=6, says=ROUND),
    "nowhere": Case(serve=answering(answer(b"", 302)), requests=6, says=ROUND),
    "nothing": Case(serve=redirect(""), requests=6, says=ROUND),
    "bytes that are no text": Case(serve=redirect(b"/\xff\xfe"), says=SCHEME),
}


@pytest.mark.parametrize("case", [*LEADS_ON.values(), *IN_CIRCLES.values()], ids=[*LEADS_ON, *IN_CIRCLES])
async def test_a_redirect_is_followed_so_far_and_no_further(
    case: Case, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    await run(case, caplog, tmp_path / "out.png")


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("b.png?x=%2F", "/files/b.png?x=%2F"),
        ("/s?a=%2Fb%3D%3D&c=d+e", "/s?a=%2Fb%3D%3D&c=d+e"),
        ("?s=%7Ea", "/files/a.png?s=%7Ea"),
        ("/a b", "/a%20b"),
        ("/\u00fc", "/%C3%BC"),
        ("/a#b", "/a"),
    ],
)
async def test_a_signature_in_a_redirect_is_sent_as_it_was_signed(location: str, target: str) -> None:
    async with RawServer(redirect(location), WHOLE) as server, client(server) as phota:
        assert (await phota.download(f"{server.url}/files/a.png?signature=x#y")).data == IMAGE
        assert [request.target for request in server.begun] == ["/files/a.png?signature=x", target]
