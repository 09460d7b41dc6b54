"""A config's fields as flags: `--sampling.temperature 0.9`, each helped by the docstring under the field.

`--model.model DIR` may be written `--model DIR`, and a list of words with commas: `--benchmarks geneval,pope`.

The docstrings are read from the source with `ast`, since Python drops them; values cross as JSON or as plain words and
are checked by `arm.config` like every other config.
"""

import argparse
import ast
import dataclasses
import inspect
import json
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any

from arm import config as configs


class Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help at a readable width; a flag without a value of its own shows none."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=36, width=110)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, "{}") else super()._get_help_string(action)


def add_fields(parser: argparse.ArgumentParser, config_type: type) -> None:
    """Add one flag for each field, nested ones with a dot; `--config.<field>` where an input has that name."""
    taken = {option for action in parser._actions for option in action.option_strings}
    group = parser.add_argument_group("config", (config_type.__doc__ or "").split("\n")[0])
    for name, default, hint, text in fields_of(config_type):
        shown = f"{text} (default: {show_default(default)})".replace("%", "%%")
        flag = f"--{name.replace('_', '-')}"
        flag = f"--config.{flag[2:]}" if flag in taken else flag
        short = flag.rpartition(".")[0]
        flags = [short, flag] if short.endswith(f"-{name.rpartition('.')[2]}") and short not in taken else [flag]
        group.add_argument(*flags, dest=f"config.{name}", metavar=_metavar(hint), help=shown)


def collect(config_type: type, text: str, values: dict[str, Any]) -> str:
    """Lay the flags that were given over the config's JSON; returns JSON."""
    given = {name: values.pop(f"config.{name}") for name, _, _, _ in fields_of(config_type)}
    hints = {name: hint for name, _, hint, _ in fields_of(config_type)}
    flags = {name: _value(word, hints[name]) for name, word in given.items() if word is not None}
    if not flags:
        return text
    merged = configs.to_dict(configs.from_json(config_type, text)) if text.strip() != "{}" else {}
    for name, value in flags.items():
        *path, last = name.split(".")
        place = merged
        for step in path:
            place = place.setdefault(step, {})
        place[last] = value
    return json.dumps(merged)


def fields_of(config_type: type, prefix: str = "", base: Any = None) -> Iterator[tuple[str, Any, Any, str]]:
    """(dotted name, default or MISSING, annotation, docstring) for each field that is no dataclass itself."""
    hints, docs = typing.get_type_hints(config_type), docstrings(config_type)
    for name, default in configs.defaults_of(config_type, base).items():
        if dataclasses.is_dataclass(hints[name]):
            nested = default if dataclasses.is_dataclass(default) else None
            yield from fields_of(typing.cast(type, hints[name]), f"{prefix}{name}.", nested)
        else:
            yield f"{prefix}{name}", default, hints[name], docs.get(name, "")


def docstrings(config_type: type) -> dict[str, str]:
    """Field -> the string literal under it, on one line; those of the classes that it derives from, too."""
    found = {}
    for each in reversed([base for base in config_type.__mro__ if dataclasses.is_dataclass(base)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return found


def _value(word: str, hint: Any) -> Any:
    """A flag's word as JSON where the field is no text; a word that is no JSON stays a word."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if str in options:
        return word
    try:
        return json.loads(word)
    except json.JSONDecodeError:
        if typing.get_origin(hint) is tuple and typing.get_args(hint)[0] is str:
            return [part.strip() for part in word.split(",")]
        return {"True": True, "False": False}.get(word, word)


def show_default(default: Any) -> str:
    """A default as it would be written in JSON."""
    return "none: needed" if default is dataclasses.MISSING else json.dumps(configs.plain(default))


def _metavar(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(str(value) for value in typing.get_args(hint))
    return "JSON" if typing.get_origin(hint) in (tuple, dict) else getattr(hint, "__name__", "value").upper()
