"""Which proxy a URL goes through: the environment's variables as curl reads them, or the one that was given."""

import pytest
from yarl import URL

from phota_async.settings import proxies
from phota_async.transport.proxies import Proxies, proxy_url

API = URL("https://api.photalabs.com/v1/phota/enhance")
PROXY = "http://proxy.example:3128"


def through(no_proxy: str, url: str) -> bool:
    proxies = Proxies({"https": PROXY, "http": PROXY, "no": no_proxy}, spares_loopback=False)
    return proxies.for_url(URL(url)) is not None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "localhost", "box.localhost"])
def test_loopback_is_never_proxied_by_the_environment(host: str) -> None:
    assert Proxies({"http": PROXY}).for_url(URL(f"http://{host}:8321/v1")) is None


def test_the_places_of_all_proxies_are_known() -> None:
    found = Proxies({"http": "proxy.example:1", "all": "https://[::1]:2", "https": "socks5://x", "no": "y"}).places()
    assert found == {("proxy.example", 1), ("::1", 2)}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("https://proxy.example", "https://proxy.example"),
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("proxy.example", "http://proxy.example"),
        ("10.0.0.1:8080", "http://10.0.0.1:8080"),
        ("user:pass@proxy.example:1", "http://user:pass@proxy.example:1"),
        ("http://[::1]:3128", "http://[::1]:3128"),
        ("HTTP://PROXY.example", "http://proxy.example"),
    ],
)
def test_a_proxy_without_a_scheme_is_http(value: str, expected: str) -> None:
    assert proxy_url(value) == URL(expected)


@pytest.mark.parametrize(
    "value",
    ["socks5://p:1", "socks4a://p:1", "ftp://p", "http://", "://p", "http://p:99999", "http://p:x", "file:///p"],
)
def test_a_proxy_of_an_unknown_kind_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="proxy must be an http:// or https:// URL with a host"):
        proxy_url(value)


def test_a_refused_proxy_is_not_repeated_in_the_message() -> None:
    with pytest.raises(ValueError, match="proxy") as caught:
        proxy_url("socks5://user:secret@p:1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({}, "https://a.example", None),
        ({"https": PROXY}, "https://a.example", PROXY),
        ({"https": PROXY}, "http://a.example", None),
        ({"http": PROXY}, "http://a.example", PROXY),
        ({"http": PROXY}, "https://a.example", None),
        ({"all": PROXY}, "http://a.example", PROXY),
        ({"all": PROXY}, "https://a.example", PROXY),
        ({"all": "http://other", "https": PROXY}, "https://a.example", PROXY),
        ({"https": "", "all": PROXY}, "https://a.example", PROXY),
        ({"https": "proxy.example:3128"}, "https://a.example", PROXY),
        ({"no": "a.example"}, "https://a.example", None),
    ],
)
def test_each_scheme_has_its_proxy_and_all_is_for_the_rest(
    environment: dict[str, str], url: str, expected: str | None
) -> None:
    assert Proxies(environment).for_url(URL(url)) == (URL(expected) if expected else None)


def test_a_proxy_of_an_unknown_kind_in_the_environment_is_told_when_it_would_be_used() -> None:
    found = Proxies({"all": "socks5://127.0.0.1:1080", "no": "localhost"})
    assert found.for_url(URL("http://localhost/")) is None
    with pytest.raises(ValueError, match="proxy"):
        found.for_url(API)


@pytest.mark.parametrize(
    ("rule", "url"),
    [
        ("*", "https://a.example"),
        ("example.com", "https://example.com"),
        ("example.com", "https://www.example.com"),
        ("example.com", "https://a.b.example.com:8443/x"),
        ("EXAMPLE.com", "https://www.Example.COM"),
        (".example.com", "https://www.example.com"),
        (".example.com", "https://example.com"),
        ("example.com:443", "https://example.com"),
        ("example.com:8443", "https://example.com:8443"),
        (" other.example , example.com ", "https://example.com"),
        ("other.example,,example.com,", "https://example.com"),
        ("other.example example.com", "https://example.com"),
        ("example.com.", "https://example.com"),
        ("example.com", "https://example.com./"),
        ("localhost", "http://localhost:8321"),
        ("127.0.0.1", "http://127.0.0.1:8321"),
        ("127.0.0.0/8", "http://127.1.2.3"),
        ("10.0.0.7/8", "https://10.255.0.1"),
        ("192.168.1.1:443", "https://192.168.1.1"),
        ("::1", "http://[::1]:8321"),
        ("[::1]", "http://[::1]"),
        ("fd00::/8", "https://[fd00::1]"),
        ("2001:db8:0:0::1", "https://[2001:db8::1]"),
        ("bücher.example", "https://bücher.example"),
    ],
)
def test_no_proxy_covers(rule: str, url: str) -> None:
    assert not through(rule, url)


@pytest.mark.parametrize(
    ("rule", "url"),
    [
        ("", "https://example.com"),
        (",", "https://example.com"),
        (".", "https://example.com"),
        ("example.com", "https://notexample.com"),
        ("example.com", "https://example.com.evil.example"),
        ("www.example.com", "https://example.com"),
        ("com", "https://example.org"),
        ("example.com:80", "https://example.com"),
        ("example.com:443", "https://example.com:8443"),
        ("127.0.0.1", "https://127.0.0.2"),
        ("10.0.0.0/8", "https://11.0.0.1"),
        ("10.0.0.0/8", "https://ten.example"),
        ("10.0.0.0/99", "https://10.0.0.1"),
        ("::1", "https://[::2]"),
        ("fd00::/8", "https://[fe00::1]"),
        ("10.0.0.0/8", "https://[::1]"),
        (":443", "https://example.com"),
        ("0.0.1", "https://10.0.0.1"),
    ],
)
def test_no_proxy_does_not_cover(rule: str, url: str) -> None:
    assert through(rule, url)


@pytest.mark.parametrize("rule", ["*", "a.example"])
def test_a_proxy_that_was_given_overrides_the_environment(rule: str) -> None:
    found = proxies("http://given.example:1", {"https": PROXY, "no": rule})
    assert found.for_url(URL("https://a.example")) == URL("http://given.example:1")
    assert found.for_url(URL("http://a.example")) == URL("http://given.example:1")


def test_an_empty_proxy_means_none_at_all() -> None:
    assert proxies("", {"https": PROXY, "all": PROXY}).for_url(API) is None


def test_no_proxy_given_means_the_environments() -> None:
    assert proxies(None, {"https": PROXY}).for_url(API) == URL(PROXY)
    assert proxies(None, {}).for_url(API) is None


def test_a_given_proxy_of_an_unknown_kind_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="proxy"):
        proxies("socks5://p", {})


def test_proxies_are_hidden_because_they_may_hold_a_password() -> None:
    assert "secret" not in repr(Proxies({"https": "http://user:secret@p"}))
