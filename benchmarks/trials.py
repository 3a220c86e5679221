"""One round on a server that refuses, fails or loses calls: what its books say beside what the callers were told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from benchmarks.faulty_server import Conduct
from benchmarks.outcomes import DELIVERED, MAYBE_CHARGED, Told
from benchmarks.processes import ledger, python, serving


@frozen
class Trial:
    """What one round came to.

    Attributes:
        told: What the callers know.
        books: The server's ledger.
        charges: How often each photo was paid for, by its number.
        server_s: The server's CPU time, its start left out.
    """

    told: Told
    books: Mapping[str, float]
    charges: Mapping[int, int]
    server_s: float

    @property
    def calls(self) -> int:
        """How many there were."""
        return len(self.told.outcomes)

    @property
    def delivered(self) -> int:
        """How many of them brought their image."""
        return self.told.outcomes.count(DELIVERED)

    @property
    def told_maybe(self) -> int:
        """How many callers were told that they may have been charged."""
        return self.told.outcomes.count(MAYBE_CHARGED)

    @property
    def untold(self) -> int:
        """How many photos are paid for whose caller has no image and was not told."""
        informed = {DELIVERED, MAYBE_CHARGED}
        return sum(self.told.outcomes[number] not in informed for number in self.charges)

    @property
    def again(self) -> int:
        """How many charges were for a photo that was paid for before."""
        return sum(self.charges.values()) - len(self.charges)

    def proven(self, conduct: Conduct) -> Trial:
        """Return itself.

        Raises:
            ValueError: The server's books do not bear out what the client says.
        """
        books, numbers = self.books, range(self.calls)
        unpaid = [
            number for number in numbers if self.told.outcomes[number] == DELIVERED and not self.charges.get(number)
        ]
        fates = books["refused"] + books["failed"] + books["charged"]
        if (
            unpaid
            or not set(self.charges) <= set(numbers)
            or not self.delivered <= books["answered"] <= books["charged"] == sum(self.charges.values())
            or not self.calls <= books["requests"] == fates
            or books["widest"] > max(room for _, room in conduct.rooms)
        ):
            raise ValueError(f"the server saw other work than {self.calls} calls: {books}, not paid for: {unpaid}")
        return self


def calls(client: str, conduct: Conduct, *, calls: int, concurrency: int, interpreter: Path) -> Trial:
    """Have one client make calls, as many at once as ``concurrency`` says, on a server of their own."""
    return _tried(conduct, interpreter, "benchmarks.outcomes", client, calls=calls, concurrency=concurrency)


def batch(conduct: Conduct, *, calls: int, concurrency: int, interpreter: Path) -> Trial:
    """Have phota_async make them as one batch."""
    return _tried(conduct, interpreter, "benchmarks.batch", calls=calls, concurrency=concurrency)


def _tried(conduct: Conduct, interpreter: Path, module: str, *arguments: str, calls: int, concurrency: int) -> Trial:
    with serving("benchmarks.faulty_server", conduct=conduct.to_json()) as port:
        started = ledger(port)["cpu_s"]
        command = ("-m", module, *arguments, str(port), str(calls), str(concurrency))
        told = Told.from_json(python(*command, interpreter=interpreter))
        books = ledger(port)
        charges = {int(number): int(times) for number, times in ledger(port, "/charges").items()}
    return Trial(told, books, charges, books["cpu_s"] - started).proven(conduct)
