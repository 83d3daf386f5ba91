"""ShareGPT and OpenAI messages: talks of a user and an assistant, as JSON, JSON lines or Parquet.

A record has a list of messages under `messages`, `conversations` or `conversation`. A message has a role and a text:
`{"from": "human", "value": "..."}` (ShareGPT) or `{"role": "user", "content": "..."}` (OpenAI), where a content may
also be a list of parts of the type "text". The record may have an `id` (or `conv_id`, `conversation_id`), an `emotion`
and a `situation`, as conversions of EmpatheticDialogues have them; other keys are ignored.

- The user is the speaker, the assistant the listener; `talks.py` says what becomes of a talk that the assistant begins,
  and of several messages of one side in a row (they are joined with a line break).
- Every reply of the assistant gives one dialogue, with it as the reference. A talk that ends with the user gives one
  dialogue, the whole talk, without a reference: it asks for the next reply.
- A system or developer message is left out: a strategy writes its own.
- A talk ends before a message that no dialogue can hold: a call or an answer of a tool, any other role, an image. What
  follows would rest on what nobody sees.
- Texts stay as they are, the HTML of early ShareGPT dumps included.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from localemp.data.forms import FORMS, MESSAGES
from localemp.data.record_reader import RecordReader
from localemp.data.records import Record, read_records
from localemp.data.talks import Said, Talk, Talks
from localemp.dialogue import Dialogue
from localemp.utils.json_reader import kind_of
from localemp.utils.text import well_formed

_USER = frozenset({"user", "human", "usr", "prompter"})
_ASSISTANT = frozenset({"assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot"})
_SYSTEM = frozenset({"system", "developer"})
_TOOL = frozenset({"tool", "function", "function_call", "observation", "tool_call", "tool_response", "ipython"})
_CALLS = ("tool_calls", "function_call")
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_LONGEST_ID = 1_000
_LISTS, _IDS = FORMS[MESSAGES], ("id", "conv_id", "conversation_id")
_EXAMPLE = 'a record is one JSON object, such as {"messages": [{"role": "user", "content": "I lost my job today."}]}'


class Messages(RecordReader):
    """Reads ShareGPT or OpenAI messages: a file of them, or a folder with splits."""

    form = MESSAGES

    @staticmethod
    def read_files(files: Sequence[Path]) -> list[Dialogue]:
        """Return one dialogue for every reply of an assistant, and for every talk that awaits one."""
        return read_messages(files)


def read_messages(files: Sequence[Path]) -> list[Dialogue]:
    """Read the dialogues of files of messages, in order.

    A talk without an id is named by file and place; "chats:12#3" awaits the reply after three turns.

    Raises:
        DataError: A file cannot be read, or a record has no list of messages, or one without role or text.
    """
    talks = Talks(files[0], joint="\n", awaits=True)
    for path in files:
        for record in read_records(path, (*_LISTS, *_IDS, "emotion", "situation"), _EXAMPLE):
            said: list[Said] = []
            whole = True
            for odd, one in _messages(record):
                if odd:
                    talks.note(odd, record)
                if one is None:
                    whole = False
                    break
                said.append(one)
            emotion, situation = (_text(record, key) for key in ("emotion", "situation"))
            begins, joined = talks.add(Talk(record, _id(record), said, emotion, situation), whole)
            if begins:
                talks.note("talks begin with the assistant, whose words are left out until the user's", record)
            if joined:
                talks.note("talks have several messages of one side in a row, which are joined", record)
    return talks.done()


_BLANK = Said(False, "")


def _messages(record: Record) -> Iterator[tuple[str, Said | None]]:
    """Yield what is said, each with a note if it is odd; None where the talk ends."""
    key = next((key for key in _LISTS if record.value.get(key) is not None), None)
    if key is None:
        raise record.error(f"no {' or '.join(_LISTS)}", _EXAMPLE)
    for what, message in record.objects(key, record.value[key], _EXAMPLE, " of messages"):
        role = message.get("role") if message.get("from") is None else message["from"]
        if not isinstance(role, str):
            raise record.error(f'{what} has no "role" and no "from"', _EXAMPLE)
        role = role.strip().lower()
        if role in _SYSTEM:
            yield "system messages are left out: the strategy writes its own", _BLANK
            continue
        if role in _TOOL or any(message.get(call) for call in _CALLS):
            yield "talks end before a tool is called or answers", None
        elif role not in _USER and role not in _ASSISTANT:
            yield "talks end before a message of a role other than user and assistant", None
        elif (text := _content(record, message, what)) is None:
            yield "talks end before a message that is not only text", None
        else:
            yield "" if text else "messages are blank and left out", Said(role in _ASSISTANT, text)


def _content(record: Record, message: dict[str, Any], what: str) -> str | None:
    """Return the text of a message; None if there is more to it than text."""
    content = message.get("content") if message.get("value") is None else message["value"]
    if content is None or isinstance(content, str):
        return (content or "").strip()
    if not isinstance(content, list):
        raise record.error(f"{what} has a content that is neither a text nor a list, but {kind_of(content)}", _EXAMPLE)
    texts = []
    for part in content:
        if isinstance(part, dict):
            part = part.get("text") if str(part.get("type", "text")) in _TEXT_PARTS else None
        if not isinstance(part, str):
            return None
        texts.append(part.strip())
    return "\n".join(filter(None, texts))


def _id(record: Record) -> str | None:
    """Return the id of a record, which may be a number."""
    for key in _IDS:
        value = record.value.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool):
            text = well_formed(str(value).strip())
            if 0 < len(text) <= _LONGEST_ID:
                return text
    return None


def _text(record: Record, key: str) -> str | None:
    value = record.value.get(key)
    return value.strip() if isinstance(value, str) else None
