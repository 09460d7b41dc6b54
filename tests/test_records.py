"""Records identify what they hold."""

import hashlib

from arm.records import make_uid


def test_a_uid_is_the_first_half_of_a_sha256_over_its_parts() -> None:
    assert (
        make_uid("http://garden.test/1.png", "a red circle")
        == hashlib.sha256(b"http://garden.test/1.png\0a red circle").hexdigest()[:32]
    )


def test_parts_do_not_run_into_each_other() -> None:
    assert make_uid("ab", "c") != make_uid("a", "bc")
