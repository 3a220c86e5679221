"""Workers of a cluster without the cluster: `Enhance` on one store, and what the store holds."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field
from PIL import Image

from phota_async import Price
from phota_async.models import EnhanceOptions
from phota_async.ray import Enhance, rules
from phota_async.ray.buyer import Buyer
from phota_async.ray.desk import Desk
from phota_async.ray.store import Store
from phota_async.sandbox import Sandbox

KEY = "key-of-the-account-that-belongs-in-no-store"

Row = dict[str, Any]


def small_photo(number: int) -> bytes:
    """A photo that no other number gives."""
    file = io.BytesIO()
    noise = hashlib.shake_256(b"%d" % number).digest(8 * 8 * 3)
    Image.frombytes("RGB", (8, 8), noise).save(file, "PNG")
    return file.getvalue()


FOLDER = rules.keys(EnhanceOptions(), stand_in=True)(hashlib.sha256(small_photo(1)).hexdigest())
"""Where the store has photo 1."""


def batch_of(*numbers: int) -> dict[str, list[Any]]:
    """Rows as `read_binary_files` gives them."""
    return {
        "bytes": [small_photo(number) for number in numbers],
        "path": [f"/photos/{number}.png" for number in numbers],
    }


def states(rows: list[Row]) -> list[str]:
    return [row["state"] for row in rows]


def until(condition: Callable[[], object], patience: float = 20.0) -> None:
    """Wait for what nobody tells: that files are there."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def rows_of(columns: dict[str, list[Any]]) -> list[Row]:
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def desk_of(store: Store, buyer: Buyer, patience: float) -> Desk:
    """A worker's desk without the worker."""
    return Desk(
        store=store,
        buyer=buyer,
        options=EnhanceOptions(),
        by="a worker",
        price=Price(),
        patience=patience,
        retry_unknown=0,
        width=16,
    )


@define(eq=False)
class Workers:
    """Makes workers that share a store."""

    box: Sandbox
    store: Path
    opened: list[Enhance] = field(factory=list[Enhance])

    def hire(self, **options: Any) -> Enhance:
        given: dict[str, Any] = {"store": self.store, "base_url": self.box.url, **options}
        worker = Enhance(**given)
        self.opened.append(worker)
        return worker

    def run(self, *numbers: int, **options: Any) -> list[Row]:
        """Let a new worker enhance these photos."""
        return rows_of(self.hire(**options)(batch_of(*numbers)))

    def close(self) -> None:
        for worker in self.opened:
            worker.close()

    @property
    def charges(self) -> list[int]:
        """How often each photo that was charged was charged, in no order."""
        return list(Counter(self.box.ledger.charges).values())

    def files(self, pattern: str) -> list[Path]:
        return sorted(self.store.rglob(pattern))

    def claims(self) -> list[str]:
        """The states of all claims, in the order of their names."""
        return [json.loads(path.read_text())["state"] for path in self.files("claim-*.json") if path.stem[-1].isdigit()]
