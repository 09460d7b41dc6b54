"""Copies are found with sorted keys as they are one after the other."""

import numpy as np
import pytest

from arm.data.copies import find_copies
from arm.data.measured import Words, key_words, to_uids, uid_words


def words(text: str) -> Words:
    """A key for each letter."""
    return key_words([letter.encode() * 16 for letter in text])


def found(contents: str, uids: str, num_known: int = 0, dead: tuple[int, ...] = ()) -> dict[int, int]:
    alive = ~np.isin(np.arange(len(uids)), dead)
    copies, owners = find_copies(words(uids), words(contents), alive, num_known)
    return dict(zip(copies.tolist(), owners.tolist(), strict=True))


def one_by_one(contents: str, uids: str, num_known: int, dead: tuple[int, ...]) -> dict[int, int]:
    """What it means: the first stays, and a copy's keys are remembered by nobody."""
    seen, copies = dict[tuple[str, str], int](), dict[int, int]()
    for place, keys in enumerate(zip(contents, uids, strict=True)):
        content, uid = ("content", keys[0]), ("uid", keys[1])
        if place in dead:
            continue
        if place >= num_known and (content in seen or uid in seen):
            copies[place] = seen[content] if content in seen else seen[uid]
        else:
            seen[content] = seen[uid] = place
    return copies


def test_the_first_stays_and_a_copy_makes_no_copies() -> None:
    assert found("aabcc", "pqqrr") == {1: 0, 4: 3}


def test_the_content_names_the_owner_before_the_uid_does() -> None:
    assert found("abba", "pqpq") == {2: 1, 3: 0}
    assert found("axba", "pqpb", num_known=2) == {2: 0, 3: 0}


def test_the_known_stay_and_the_dead_are_not_seen() -> None:
    assert found("abab", "pqrs", num_known=2) == {2: 0, 3: 1}
    assert found("aaa", "pqr", dead=(0,)) == {2: 1}
    assert found("", "") == {}


@pytest.mark.parametrize("seed", range(200))
def test_it_is_as_one_after_the_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size, num_known = int(rng.integers(1, 40)), int(rng.integers(0, 4))
    num_known = min(num_known, size)
    letters = [chr(97 + number) for number in range(int(rng.integers(2, 26)))]
    contents, uids = ("".join(rng.choice(letters, size)) for _ in range(2))
    known = "".join(chr(48 + number) for number in range(num_known))  # what was kept before shares nothing among itself
    contents, uids = known + contents[num_known:], known + uids[num_known:]
    for place in range(num_known, size):
        if num_known and rng.random() < 0.2:
            contents = contents[:place] + known[rng.integers(num_known)] + contents[place + 1 :]
    dead = tuple(place for place in range(num_known, size) if rng.random() < 0.2)
    assert found(contents, uids, num_known, dead) == one_by_one(contents, uids, num_known, dead)


def test_uids_are_the_same_as_keys_and_back() -> None:
    uids = ["0123456789abcdef0000000000000001", "f" * 32]
    assert uid_words(uids).tolist() == [[0x0123456789ABCDEF, 2**64 - 1], [1, 2**64 - 1]]
    assert to_uids(uid_words(uids)) == uids
    assert to_uids(uid_words([])) == []
