"""Personal data is found where a checksum, a range or a table allows it, and what only looks like it stays."""

import typing

import pytest

from arm.data.config.filtering import PersonalData
from arm.data.privacy import FINDERS, mask

ALL = tuple(FINDERS)


@pytest.mark.parametrize(
    ("text", "masked", "kinds"),
    [
        ("Ann, +49 30 1234567, ann.b+c@mail.garden.test.", "Ann, <phone>, <email>.", ["email", "phone"]),
        ("(555) 234-5678 or 555-234-5678", "<phone> or <phone>", ["phone", "phone"]),
        ("Tel: 030 123456. Fax 030/1234567", "Tel: <phone>. Fax <phone>", ["phone", "phone"]),
        ("call 0049 30 123456 now", "call <phone> now", ["phone"]),
        ("host 192.168.0.1:8080 and 2001:db8::1", "host <ip>:8080 and <ip>", ["ip", "ip"]),
        ("card 4111 1111 1111 1111", "card <card>", ["card"]),
        ("amex 3782-822463-10005", "amex <card>", ["card"]),
        ("to DE89 3704 0044 0532 0130 00 BERLIN", "to <iban> BERLIN", ["iban"]),
        ("GB82WEST12345698765432", "<iban>", ["iban"]),
    ],
)
def test_what_is_personal_gives_way_to_its_kind(text: str, masked: str, kinds: list[str]) -> None:
    assert mask(text, ALL) == (masked, kinds)


@pytest.mark.parametrize(
    "text",
    [
        "978-3-16-148410-0, a book",
        "EAN 4006381333931",
        "card 4111 1111 1111 1112",  # Luhn's sum is wrong
        "DE88 3704 0044 0532 0130 00",  # leaves another remainder than 1
        "TV 1920x1080 of 2019-04-01 at 12:30:45, 16:9",
        "v1.2.3.4, version 1.2.3.4, 300.1.1.1",
        "IMG_20190401_123456789 00491234567890",
        "size 300 400 5000, postal code 1000-1234",
        "std::dead::beef and bad::face",
        "mail @garden, a@b",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert mask(text, ALL) == (text, [])


def test_only_the_wanted_kinds_are_masked() -> None:
    assert mask("ann@garden.test +49 30 1234567", ("phone",)) == ("ann@garden.test <phone>", ["phone"])


def test_the_config_names_what_there_is_a_finder_for() -> None:
    assert set(typing.get_args(PersonalData)) == set(FINDERS)
