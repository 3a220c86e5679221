"""A world outside in which names have the addresses that a test gives them, and nobody but 127.0.0.1 is reached."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen
from hostile_downloads import SIGNATURE, Case, run, unwanted
from raw_server import RawServer, Wire, answer


@define
class Net:
    """What stands between the package and the system: two functions of `socket`.

    Attributes:
        names: What each look-up of a name says; the last serves all that follow.
        asked: The names that were looked up.
        tried: The addresses that a socket tried to connect to.
    """

    names: dict[str, list[list[str]]] = field(factory=dict[str, list[list[str]]])
    asked: list[str] = field(factory=list[str])
    tried: list[str] = field(factory=list[str])

    def look_up(self, real: Callable[..., Any], host: str, port: int, *rest: Any, **named: Any) -> Any:
        name = (host.decode() if isinstance(host, bytes) else str(host)).lower()
        if name.replace(".", "").isdigit() or ":" in name:
            return real(host, port, *rest, **named)
        self.asked.append(name)
        if name not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        left = self.names[name]
        found = left.pop(0) if len(left) > 1 else left[0]
        return [_entry(address, port) for address in found]

    def connect(self, real: Callable[..., Any], one: socket.socket, address: Any) -> None:
        if one.family in {socket.AF_INET, socket.AF_INET6}:
            self.tried.append(address[0])
            if address[0] != "127.0.0.1":
                raise ConnectionRefusedError(111, "Connection refused")
        real(one, address)


def _entry(address: str, port: int) -> tuple[Any, ...]:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))


@contextmanager
def closed_net() -> Generator[Net]:
    """Stand between for the length of the block."""
    net, look_up, connect = Net(), socket.getaddrinfo, socket.socket.connect

    def looking_up(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        return net.look_up(look_up, host, port, *rest, **named)

    def connecting(one: socket.socket, address: Any) -> None:
        net.connect(connect, one, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", looking_up)
        patch.setattr(socket.socket, "connect", connecting)
        yield net


def to(place: str) -> Callable[[RawServer], str]:
    """Return a link to that place; what it is signed with must show nowhere."""
    return lambda server: f"{place}?signature={SIGNATURE}".format(port=server.port)


def refused(says: str) -> Case:
    """Return a case in which nobody is asked."""
    return Case(serve=unwanted, requests=0, says=says)


@frozen
class Ways:
    """The two ways to lead a client to a place where no link may lead."""

    net: Net
    caplog: pytest.LogCaptureFixture
    folder: Path

    async def meet(self, by: str, place: str, says: str) -> None:
        """Lead there; only the server that leads is connected to."""
        if by == "link":
            await run(refused(says), self.caplog, None, url=to(place))
        else:

            async def leading(wire: Wire) -> None:
                await wire.request()
                await wire.send(answer(b"", 302, {"Location": to(place)(wire.server)}))

            await run(Case(serve=leading, says=says), self.caplog, self.folder / "out.png")
        # One connection is the POST's that shows the slot free.
        assert self.net.tried == ["127.0.0.1"] * (1 if by == "link" else 2)
