"""The identity of a document, hashed: (kind, shard, row, epoch) -> 64 bits, and their sum over a step.

A sum does not depend on how the documents were dealt to ranks, and notices one that was left out or fed twice. Every rank
adds up what it builds; the ledger adds up what it lists; `arm ledger verify` compares them with the plan.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.integer]
Hashes = npt.NDArray[np.uint64]

MODULUS = 1 << 62
"""Sums cross the ranks as two halves of 31 bits in int64."""


def shard_keys(names: Sequence[str]) -> Hashes:
    """A 64-bit key of each shard's name."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.asarray([int.from_bytes(digest, "little") for digest in digests], dtype=np.uint64)


def identities(kinds: Integers, keys: Hashes, rows: Integers, epochs: Integers) -> Hashes:
    """The hash of each document; `keys` are its shard's, `kinds` places in KINDS."""
    with np.errstate(over="ignore"):
        place = _mixed(keys + _mixed(rows.astype(np.uint64) + np.uint64(1)))
        return _mixed(place ^ _mixed((epochs.astype(np.uint64) << np.uint64(8)) + kinds.astype(np.uint64)))


def identity_sum(kinds: Integers, keys: Hashes, rows: Integers, epochs: Integers) -> int:
    """The sum over some documents."""
    return int(identities(kinds, keys, rows, epochs).sum(dtype=np.uint64)) % MODULUS


def sums_by_step(hashes: Hashes, steps: Integers, num_steps: int) -> Hashes:
    """The sum of each step's hashes.

    hashes 5 7 9, steps 1 0 1, 3 steps  ->  7 14 0
    """
    order = np.argsort(steps, kind="stable")
    starts = np.searchsorted(steps[order], np.arange(num_steps))
    totals = np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashes[order], dtype=np.uint64)])
    ends = np.append(starts[1:], len(order))
    sums: Hashes = (totals[ends] - totals[starts]) % np.uint64(MODULUS)
    return sums


def _mixed(values: Hashes) -> Hashes:
    """SplitMix64's finaliser: every bit of a value turns about half of the bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = values ^ (values >> np.uint64(31))
    return mixed
