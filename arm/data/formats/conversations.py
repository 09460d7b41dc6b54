"""Conversations: LLaVA's {from, value}, OpenAI's {role, content}, or a question with its answer."""

from collections.abc import Mapping
from typing import Any

from arm.data.formats.rows import Unfit, text_of
from arm.records import Text

ASKERS = ("human", "user", "system")
ANSWERERS = ("gpt", "assistant", "model")


def turns_of(conversations: Any, question: Any = None, answer: Any = None) -> list[Text]:
    """Questions and answers in order; Unfit without an answer, or when a turn is of nobody known."""
    if conversations is None and question is not None:
        conversations = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    if not isinstance(conversations, list):
        raise Unfit("bad_record")
    turns = [_turn(turn) for turn in conversations]
    if not any(turn.role == "answer" for turn in turns):
        raise Unfit("no_answer")
    return turns


def _turn(turn: Any) -> Text:
    if not isinstance(turn, Mapping):
        raise Unfit("bad_record")
    speaker, words = turn.get("from") or turn.get("role"), turn.get("value", turn.get("content"))
    if isinstance(words, list):
        words = "".join(_piece(piece) for piece in words)
    if words is None or speaker not in (*ASKERS, *ANSWERERS):
        raise Unfit("bad_record")
    return Text(text=text_of(words), role="question" if speaker in ASKERS else "answer")


def _piece(piece: Any) -> str:
    """`{"type": "image"}` and `{"type": "text", "text": ...}` of OpenAI's content."""
    if not isinstance(piece, Mapping):
        raise Unfit("bad_record")
    return text_of(piece.get("text")) if piece.get("type") == "text" else "<image>"
