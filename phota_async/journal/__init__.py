"""The journal of an output folder: what was bought, where it went, and what is not known. All of it blocks.

An SQLite database, ``.phota-async.sqlite3``, that one run at a time writes to. The states of an item, which is what a
photo's bytes and the options of a request make together:

    (none) --> sent --> answered --> done          answered: paid for, its links are here
                 |          |
                 |          +------> unknown       the links expired before they were fetched
                 +--> failed                       not charged
                 +--> unknown                      may have been charged; a `sent` that a dead run left counts as one

`sent` is on the disk before the request begins and `answered` before anything is fetched, so that no crash, at any
moment, loses what was paid for or buys it again.
"""

from __future__ import annotations

from phota_async.journal.database import LOCK_NAME, NAME, Entry, Journal
from phota_async.journal.items import Item, Key
from phota_async.journal.names import Claim, Occupied, Reserved
from phota_async.journal.photos import Row

__all__ = ["LOCK_NAME", "NAME", "Claim", "Entry", "Item", "Journal", "Key", "Occupied", "Reserved", "Row"]
