"""A stand-in for the enhance endpoint: no key, no cost, the same contract.

``async with Sandbox() as box`` (or ``with Sandbox() as box`` from synchronous code) serves ``box.url`` on
127.0.0.1. Nothing here is shared with the client, so that a bug of one cannot hide a bug of the other.

The names are loaded on first use: the pytest plugin lives in this package and is imported by every run of
pytest, also where Pillow is not installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .faults import Fault
    from .ledger import DownloadRecord, Ledger, RequestRecord
    from .server import Sandbox, serve_forever

__all__ = ["DownloadRecord", "Fault", "Ledger", "RequestRecord", "Sandbox", "serve_forever"]

_HOMES = {
    "DownloadRecord": "ledger",
    "Fault": "faults",
    "Ledger": "ledger",
    "RequestRecord": "ledger",
    "Sandbox": "server",
    "serve_forever": "server",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        missing = error.name
    raise ImportError(f"The sandbox needs {missing}, which is not installed: install phota-async[sandbox]")
