"""Configs are read strictly, written canonically, and split into what can change bytes and what cannot."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arm import config as configs
from arm.errors import UserError
from arm.tokenizer.config import DetokenizerConfig


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 3
    workers: int = configs.operational(2)


@dataclass(frozen=True, kw_only=True)
class Middle:
    inner: Inner
    depth: int = 1


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    limit: int | None = None
    weights: tuple[float, ...] = (1.0,)
    pair: tuple[int, str] = (1, "x")
    table: dict[str, Inner] = field(default_factory=dict)
    inner: Inner = Inner()
    other: Inner | None = Inner(size=5, workers=6)
    deep: Middle = field(default_factory=lambda: Middle(inner=Inner(size=7)))
    fast: bool = False

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise UserError(f"Outer.rate is {self.rate}; it must be 0 or more.")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"nam": "x"}', "Outer has no field 'nam'; did you mean 'name'?"),
        ('{"name": "x", "inner": {"sise": 1}}', "Outer.inner has no field 'sise'; did you mean 'size'?"),
        ('{"name": "x", "table": {"k": {"size": "big"}}}', "Outer.table.k.size must be int, not 'big'."),
        ('{"name": 7}', "Outer.name must be str, not 7."),
        ('{"name": "x", "rate": true}', "Outer.rate must be float, not True."),
        ('{"name": "x", "limit": 1.5}', "Outer.limit must be int, not 1.5."),
        ('{"name": "x", "kind": "c"}', "Outer.kind is 'c'; known: a, b."),
        ('{"name": "x", "weights": 1}', "Outer.weights must be a list, not 1."),
        ('{"name": "x", "pair": [1]}', "Outer.pair needs 2 values, not 1."),
        ('{"name": "x", "rate": -1}', "Outer.rate is -1.0; it must be 0 or more."),
        ("{}", "Outer needs a value for name."),
        ("[1]", "Outer must be a JSON object, not [1]."),
    ],
)
def test_a_wrong_config_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        configs.from_json(Outer, text)
    assert str(caught.value) == sentence


def test_broken_json_is_one_sentence() -> None:
    with pytest.raises(UserError, match="the config is not JSON"):
        configs.from_json(Outer, "{name: 1")


def test_lists_become_tuples_and_whole_floats_become_integers() -> None:
    found = configs.from_json(Outer, '{"name": "x", "weights": [1, 2], "limit": 4.0, "rate": 1}')
    assert found.weights == (1.0, 2.0)
    assert found.limit == 4
    assert isinstance(found.limit, int)
    assert isinstance(found.rate, float)


def test_an_operational_field_is_written_but_does_not_identify() -> None:
    one, two = Outer(name="x", inner=Inner(workers=1)), Outer(name="x", inner=Inner(workers=9))
    assert configs.identity(one) == configs.identity(two)
    assert configs.identity(one)["inner"] == {"size": 3}
    assert configs.to_dict(two)["inner"] == {"size": 3, "workers": 9}


@given(
    st.builds(
        Outer,
        name=st.text(),
        rate=st.floats(0, 1e6),
        kind=st.sampled_from(["a", "b"]),
        limit=st.none() | st.integers(),
        weights=st.lists(st.floats(-1e6, 1e6)).map(tuple),
        pair=st.tuples(st.integers(), st.text()),
        table=st.dictionaries(st.text(), st.builds(Inner, size=st.integers(), workers=st.integers())),
        fast=st.booleans(),
    )
)
def test_a_config_comes_back_from_its_json(config: Outer) -> None:
    assert configs.from_json(Outer, configs.to_json(config)) == config


def test_a_part_of_a_nested_config_leaves_the_rest_as_the_default_of_its_holder_has_it() -> None:
    """Of other (size 5, workers 6) and deep.inner (size 7, workers 2) one field each is given."""
    found = configs.from_json(Outer, '{"name": "x", "other": {"size": 1}, "deep": {"inner": {"workers": 9}}}')
    assert found.other == Inner(size=1, workers=6)
    assert found.deep == Middle(inner=Inner(size=7, workers=9))
    assert configs.from_json(Outer, '{"name": "x", "table": {"a": {"size": 1}}}').table == {"a": Inner(size=1)}
    assert configs.from_json(Outer, '{"name": "x", "other": null}').other is None
    flow = configs.from_json(DetokenizerConfig, '{"flow": {"time_sampling": "logit_normal"}}').flow
    assert (flow.time_sampling, flow.width, flow.patch) == ("logit_normal", 1152, 2)  # FlowConfig's own: 1024 and 16


def test_the_text_does_not_depend_on_the_order_of_keys() -> None:
    one = configs.from_json(Outer, '{"name": "x", "rate": 2.0}')
    two = configs.from_json(Outer, '{"rate": 2.0, "name": "x"}')
    assert configs.to_json(one) == configs.to_json(two)
    assert json.loads(configs.to_json(one))["rate"] == 2.0


def test_a_field_that_came_later_leaves_keys_as_they_were_until_it_is_used() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Later:
        size: int = 1
        extra: Mapping[str, int] = configs.added(factory=dict)
        name: str = configs.added("")

    assert configs.identity(Later()) == {"size": 1}
    assert configs.identity(Later(extra={"a": 1}, name="b")) == {"size": 1, "extra": {"a": 1}, "name": "b"}
    assert configs.to_dict(Later()) == {"size": 1, "extra": {}, "name": ""}
