"""Configs: frozen keyword-only dataclasses, read strictly from JSON.

A config crosses every border (command line, KFP, manifest) as one JSON object. A field that cannot change the
bytes of the output (worker counts, timeouts) is declared with `operational(...)` and left out of the content key; one
that came later with `added(...)`, and left out at its default: runs from before it keep their keys.

    {"min_caption_charcters": 5}  ->  UserError: FilterConfig has no field 'min_caption_charcters';
                                      did you mean 'min_caption_characters'?
    {"optimizer": {"warmup_steps": 9}}  ->  DetokenizerConfig's own optimizer, with 9 steps of warm-up
"""

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from arm.errors import UserError

Config = TypeVar("Config")


def operational(default: Any = dataclasses.MISSING) -> Any:
    """Declare a field that cannot change the bytes of the output; the content key leaves it out."""
    return dataclasses.field(default=default, metadata={"operational": True})


def added(default: Any = dataclasses.MISSING, *, factory: Any = dataclasses.MISSING) -> Any:
    """Declare a field that came later; at its default, where a run is as it was before, the content key leaves it out."""
    return dataclasses.field(default=default, default_factory=factory, metadata={"added": True})


def from_json(config_type: type[Config], text: str) -> Config:
    """Read a config from a JSON object; an unknown key, a wrong type or broken JSON is a UserError."""
    try:
        values = json.loads(text) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise UserError(f"{config_type.__name__}: the config is not JSON ({error}); give one JSON object.") from None
    return from_dict(config_type, values)


def from_dict(config_type: type[Config], values: Any, where: str = "", *, base: Config | None = None) -> Config:
    """Build a config from plain values, checking every key and type on the way down; what lacks is as in `base`."""
    name = where or config_type.__name__
    if not isinstance(values, Mapping):
        raise UserError(f"{name} must be a JSON object, not {values!r}.")
    hints = typing.get_type_hints(config_type)
    defaults = defaults_of(config_type, base)
    for key in values:
        if key not in defaults:
            raise UserError(f"{name} has no field {key!r}; {suggest(str(key), sorted(defaults))}")
    converted = {key: _convert(value, hints[key], f"{name}.{key}", defaults[key]) for key, value in values.items()}
    try:
        return config_type(**converted) if base is None else dataclasses.replace(typing.cast(Any, base), **converted)
    except TypeError as error:
        required = [field for field, default in defaults.items() if default is dataclasses.MISSING]
        absent = [field for field in required if field not in converted]
        if not absent:
            raise
        raise UserError(f"{name} needs a value for {', '.join(absent)}.") from error


def defaults_of(config_type: type, base: Any = None) -> dict[str, Any]:
    """Field -> its value where nobody sets it: as in `base`, else the class's own; MISSING where somebody must."""
    fields = dataclasses.fields(typing.cast(Any, config_type))
    return {field.name: _default(field) if base is None else getattr(base, field.name) for field in fields}


def suggest(word: str, known: list[str]) -> str:
    """Say which known word was probably meant, or list them all."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}."


def to_json(config: Any) -> str:
    """Write a config as canonical JSON: sorted keys, no spaces, the same text for the same values."""
    return json.dumps(to_dict(config), sort_keys=True, separators=(",", ":"))


def to_dict(config: Any) -> dict[str, Any]:
    """All fields as plain JSON values."""
    return typing.cast(dict[str, Any], plain(config))


def plain(value: Any) -> Any:
    """A field's value as plain JSON: tuples become lists, configs become objects."""
    return _plain(value, identity=False)


def identity(config: Any) -> dict[str, Any]:
    """The fields that can change bytes, as plain JSON values: what the content key covers."""
    return typing.cast(dict[str, Any], _plain(config, identity=True))


def _plain(value: Any, *, identity: bool) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name), identity=identity)
            for field in dataclasses.fields(value)
            if not (identity and _is_left_out(field, getattr(value, field.name)))
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(item, identity=identity) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, identity=identity) for item in value]
    return value


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _is_left_out(field: "dataclasses.Field[Any]", value: Any) -> bool:
    """Whether a field says nothing about the bytes of the output."""
    if field.metadata.get("added"):
        return bool(value == _default(field))
    return bool(field.metadata.get("operational"))


def _convert(value: Any, hint: Any, where: str, default: Any = None) -> Any:
    """Check `value` against the annotation and return it in the annotated type (lists become tuples).

    A config's fields that `value` leaves out are those of the default, where that is such a config.
    """
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, get_args(hint), where, default)
    if origin is Literal:
        if value not in get_args(hint):
            raise UserError(f"{where} is {value!r}; {suggest(str(value), [str(a) for a in get_args(hint)])}")
        return value
    if dataclasses.is_dataclass(hint):
        base = default if type(default) is hint else None
        return from_dict(typing.cast(type, hint), value, where, base=base)
    if origin is tuple:
        return _convert_tuple(value, get_args(hint), where)
    if origin in (dict, Mapping) or (origin is not None and issubclass(origin, Mapping)):
        if not isinstance(value, Mapping):
            raise UserError(f"{where} must be a JSON object, not {value!r}.")
        return {key: _convert(item, get_args(hint)[1], f"{where}.{key}") for key, item in value.items()}
    return _convert_scalar(value, hint, where)


def _convert_union(value: Any, options: tuple[Any, ...], where: str, default: Any) -> Any:
    if value is None and type(None) in options:
        return None
    errors = []
    fitting = [option for option in options if isinstance(value, list | tuple) and len(get_args(option)) == len(value)]
    for option in fitting or options:  # of tuples the one of that length, so that its error says what is wrong inside
        if option is not type(None):
            try:
                return _convert(value, option, where, default)
            except UserError as error:
                errors.append(error)
    raise errors[0]


def _convert_tuple(value: Any, items: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise UserError(f"{where} must be a list, not {value!r}.")
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(_convert(item, items[0], f"{where}[{index}]") for index, item in enumerate(value))
    if len(value) != len(items):
        raise UserError(f"{where} needs {len(items)} values, not {len(value)}.")
    return tuple(_convert(item, kind, f"{where}[{i}]") for i, (item, kind) in enumerate(zip(value, items, strict=True)))


def _convert_scalar(value: Any, hint: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UserError(f"{where} must be {hint.__name__}, not {value!r}.")
    return value
