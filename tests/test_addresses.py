"""Where a signed link may lead: the public internet over https, or the API's own origin, in whatever spelling."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from phota_async.transport.addresses import PublicResolver, is_public, refusal

OWN = URL("https://api.photalabs.com/v1/phota")


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "93.184.216.34",
        "2606:4700:4700::1111",
        "2001:4860:4860::8888",
        "192.88.99.1",
        "::ffff:8.8.8.8",
        "2002:808:808::1",
        "64:ff9b::808:808",
    ],
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    # private, loopback, link-local (the cloud's metadata), shared, unspecified, broadcast, multicast, documentation
    [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104  (that is what is refused)
        "0.1.2.3",
        "255.255.255.255",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "198.18.0.1",
        "192.0.0.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "ff0e::1",
        "2001:db8::1",
        "100::1",
    ],
)
def test_other_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("inner", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "224.0.0.1"])  # noqa: S104
@pytest.mark.parametrize("form", ["mapped", "6to4", "teredo", "nat64", "local nat64", "compatible", "translated"])
def test_an_ipv4_address_wrapped_in_an_ipv6_one_is_told(inner: str, form: str) -> None:
    parts = [int(part) for part in inner.split(".")]
    high, low = parts[0] << 8 | parts[1], parts[2] << 8 | parts[3]
    address = {
        "mapped": f"::ffff:{inner}",
        "6to4": f"2002:{high:x}:{low:x}::1",
        "teredo": f"2001:0:808:808:0:0:{high ^ 0xFFFF:x}:{low ^ 0xFFFF:x}",
        "nat64": f"64:ff9b::{inner}",  # RFC 6052
        "local nat64": f"64:ff9b:1::{inner}",  # RFC 8215
        "compatible": f"::{inner}",  # RFC 4291, section 2.5.5.1
        "translated": f"::ffff:0:{inner}",  # RFC 2765
    }[form]
    assert not is_public(address)


def test_the_old_site_local_addresses_are_not_public() -> None:
    assert not is_public("fec0::1")  # RFC 3879


@pytest.mark.parametrize(
    "address", ["", "localhost", "example.com", "256.1.1.1", "1.2.3", "127.1", "0x7f.1", "::g", "%"]
)
def test_what_is_no_address_is_not_public(address: str) -> None:
    assert not is_public(address)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text(max_size=30) | st.ip_addresses().map(str))
def test_any_text_is_public_or_not(text: str) -> None:
    assert is_public(text) in {True, False}


@pytest.mark.parametrize(
    "link",
    [
        "https://storage.example.com/i.png?signature=s",
        "https://8.8.8.8/i.png",
        "https://[2606:4700:4700::1111]/i",
        "https://cdn.example.com:8443/i",
        "https://api.photalabs.com/i",
        "https://api.photalabs.com:443/i",
        "https://api.photalabs.com:9443/i",
        "HTTPS://Example.COM/i",
    ],
)
def test_a_public_https_link_may_be_followed(link: str) -> None:
    assert refusal(URL(link), OWN) is None


@pytest.mark.parametrize(
    "link",
    [
        "http://storage.example.com/i.png",
        "http://api.photalabs.com/i",
        "ftp://example.com/i",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "javascript:1",
        "//example.com/i",
        "/i.png",
        "",
        "https:///i.png",
        "ws://a.example/",
    ],
)
def test_any_other_scheme_is_refused(link: str) -> None:
    assert refusal(URL(link), OWN) == "only https links, or links to the API's own host, are followed"


@pytest.mark.parametrize(
    "own",
    [
        "http://127.0.0.1:8321",
        "http://localhost:8321/v1",
        "http://[::1]:8321",
        "http://sandbox:80",
        "https://10.0.0.5/v1",
    ],
)
def test_the_apis_own_origin_may_be_anywhere(own: str) -> None:
    base = URL(own)
    assert refusal(base / "images" / "i.png", base) is None
    assert refusal(base.with_port(9999) / "i.png", base) is not None


def test_a_default_port_is_the_same_origin() -> None:
    assert refusal(URL("http://sandbox/i"), URL("http://sandbox:80/v1")) is None


async def test_the_apis_own_name_may_lead_anywhere() -> None:
    resolver = PublicResolver({("localhost", 443)})
    try:
        assert await resolver.resolve("localhost", 443)
    finally:
        await resolver.close()
