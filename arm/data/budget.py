"""How much memory the threads of one process may hold together.

budget = Budget(100_000_000)
lease = budget.take(20_000_000)      waits until so much is free
lease.release()                      or when nobody holds it any more
"""

import threading


class Budget:
    """So many bytes (or anything else that is counted) at once, over all threads of a process."""

    def __init__(self, total: int) -> None:
        self._total, self._free, self._changed = total, total, threading.Condition()

    def take(self, amount: int) -> "Lease":
        """Wait until so much is free and take it; more than there is in all means all."""
        amount = min(amount, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        return Lease(self, amount)

    def give(self, amount: int) -> None:
        """Put it back."""
        with self._changed:
            self._free += amount
            self._changed.notify_all()


class Lease:
    """What was taken from a budget; it goes back once."""

    __slots__ = ("_amount", "_budget")

    def __init__(self, budget: Budget, amount: int) -> None:
        self._budget, self._amount = budget, amount

    def release(self) -> None:
        """Give it back, unless that was done before."""
        amount, self._amount = self._amount, 0
        if amount:
            self._budget.give(amount)

    def __del__(self) -> None:
        self.release()
