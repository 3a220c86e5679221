"""What a run may spend: each request holds back the most that it can cost until its price is known."""

from __future__ import annotations

import asyncio

from phota_async.records import Price

# Sums of prices in binary: a thousandth of a cent is no money.
_NOTHING = 1e-5


class Budget:
    """The money of one run, in US dollars. Belongs to one event loop.

    Attributes:
        plain: Images that cost ``price.image``.
        special: Images that cost ``price.with_subject``.
    """

    def __init__(self, price: Price, images: int, *, subjects: bool, most: float | None) -> None:
        """Begin with nothing spent.

        Args:
            price: What an image costs.
            images: How many a request asks for.
            subjects: Whether known subjects are looked for. Where they are not, an image is taken to cost
                ``price.image`` until an answer says otherwise.
            most: What may be spent, or None for any amount.
        """
        self.plain = self.special = 0
        self._price = price
        self._images = images
        self._subjects = subjects
        self._most = most
        self._held = 0.0
        self._in_doubt = 0.0
        self._requests = 0
        self._settled = asyncio.Event()

    @property
    def spent(self) -> float:
        """What the answers cost."""
        return round(self.plain * self._price.image + self.special * self._price.with_subject, 6)

    @property
    def most_for_one(self) -> float:
        """The most that one request can cost."""
        dearest = max(self._price.image, self._price.with_subject)
        return self._images * (dearest if self._subjects else self._price.image)

    async def hold(self) -> float | None:
        """Hold back what a request can cost, and return it; None if that would pass the budget.

        While other requests are under way it waits for them: they may turn out cheaper than they can be.
        """
        while True:
            amount = self.most_for_one
            if self._most is None or self.spent + self._in_doubt + self._held + amount <= self._most + _NOTHING:
                self._held += amount
                self._requests += 1
                return amount
            if not self._requests:
                return None
            self._settled.clear()
            await self._settled.wait()

    @property
    def is_passed(self) -> bool:
        """Whether what is spent, in doubt and held back is more than the budget: what has not begun must not."""
        return self._most is not None and self.spent + self._in_doubt + self._held > self._most + _NOTHING

    def give_back(self, held: float) -> None:
        """Let go of what a request held."""
        self._held -= held
        self._requests -= 1
        self._settled.set()

    def doubt(self, held: float) -> None:
        """Count what an attempt of a request that holds this much may have cost."""
        self._in_doubt += held

    def words(self) -> str:
        """Return why nothing more is bought."""
        doubt = f" and {self._in_doubt:.2f} in doubt" if self._in_doubt else ""
        return (
            f"the budget of {self._most:.2f} USD would be passed: {self.spent:.2f} spent{doubt},"
            f" and one more photo may cost {self.most_for_one:.2f}"
        )

    def pay(self, images: int, *, subject: bool) -> float:
        """Count an answer, and return what it cost."""
        before = self.spent
        if subject:
            self.special += images
            self._subjects = True
        else:
            self.plain += images
        return round(self.spent - before, 6)
