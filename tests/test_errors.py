"""What a sentence says of an address."""

import pytest

from arm.errors import without_userinfo


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:secret@a.test:5000/x is away", "http://…@a.test:5000/x is away"),
        ("postgresql+psycopg2://arm@db.test/lineage", "postgresql+psycopg2://…@db.test/lineage"),
        ("http://me:p@ss@a.test and http://you@b.test", "http://…@a.test and http://…@b.test"),
        ("https://a.test/@user?to=b@c.test", "https://a.test/@user?to=b@c.test"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ],
)
def test_an_address_is_shown_without_user_and_password(text: str, shown: str) -> None:
    assert without_userinfo(text) == shown
