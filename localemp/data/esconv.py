"""ESConv (Liu et al. 2021, "Towards Emotional Support Dialog Systems"): 1,300 talks of a seeker and a supporter.

Two forms are read, as JSON, JSON lines or Parquet:

- The authors' `ESConv.json`, one list of talks: `emotion_type`, `situation`, and `dialog` with `speaker` ("seeker" or
  "supporter"; "speaker" or "listener" in their file of failed talks), `content`, and `annotation`, which holds the
  supporter's `strategy`. Some texts end with line breaks.
- The hub's `train.txt`, `valid.txt` and `test.txt`, JSON lines whose `dialog` has `text`, `speaker` ("usr" or "sys")
  and `strategy`; also wrapped once more, each talk a text under the key `text`, as the hub's own table has them.

Half the talks begin with the supporter, who greets, and both sides often write several messages in a row: `talks.py`
says what becomes of these. An instance is one reply of the supporter; its reference has the strategies of all messages
that it joins. A seeker's last words have no reply and give no instance. `emotion_type` is not one of the 32 emotions of
EmpatheticDialogues ("anxiety", "depression", ...), and stays as it is.

`ESConv.json` has no splits: it is read as a whole, whatever the split. Each work that uses it has drawn its own, so
another one of ours would be comparable with none. The hub's folder has the split that its authors drew: 910, 195
and 195 talks.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from localemp.data.forms import ESCONV
from localemp.data.record_reader import RecordReader
from localemp.data.records import Record, read_records
from localemp.data.talks import Said, Talk, Talks
from localemp.dialogue import SUPPORT_STRATEGIES, Dialogue
from localemp.utils.json_reader import JSONError, kind_of, parse_json

_SEEKER, _SUPPORTER = ("seeker", "usr", "speaker"), ("supporter", "sys", "listener")
_KEYS = ("dialog", "emotion_type", "situation", "text")
_EXAMPLE = 'a talk has the key "dialog", a list of objects with "speaker" and "content"'
# As the strategies are also written: with brackets, in the plural (the authors' README), in other cases.
_KNOWN = {name.lower(): name for name in SUPPORT_STRATEGIES} | {"questions": "Question", "other": "Others"}


class ESConv(RecordReader):
    """Reads ESConv: a file of it, or a folder with its splits."""

    form = ESCONV
    more_endings = (".txt",)

    @staticmethod
    def read_files(files: Sequence[Path]) -> list[Dialogue]:
        """Return one dialogue for every reply of a supporter."""
        return read_esconv(files)


def read_esconv(files: Sequence[Path]) -> list[Dialogue]:
    """Read the dialogues of files of ESConv, in order.

    A talk has no id; it is named by file and place: "ESConv:12#3" awaits the supporter's reply after three turns.

    Raises:
        DataError: A file cannot be read, or a talk is not in one of the two forms.
    """
    talks = Talks(files[0])
    for path in files:
        for record in read_records(path, _KEYS, _EXAMPLE):
            value = _unwrapped(record)
            known = {
                key: text.strip() for key in ("emotion_type", "situation") if isinstance(text := value.get(key), str)
            }
            said = list(_said(record, value.get("dialog"), talks))
            talks.add(Talk(record, None, said, known.get("emotion_type"), known.get("situation")))
    return talks.done()


def _unwrapped(record: Record) -> dict[str, Any]:
    """Return the talk, which may be a text of its own."""
    value, text = record.value, record.value.get("text")
    if value.get("dialog") is None and isinstance(text, str):
        try:
            value = parse_json(text)
        except JSONError as error:
            raise record.error(f'"text": {error}', _EXAMPLE) from error
        if not isinstance(value, dict):
            raise record.error(f'"text" must hold an object, found {kind_of(value)}', _EXAMPLE)
    return value


def _said(record: Record, dialog: Any, talks: Talks) -> Iterator[Said]:
    for what, each in record.objects("dialog", dialog, _EXAMPLE):
        who, text = each.get("speaker"), each.get("text") if each.get("content") is None else each["content"]
        if who not in _SEEKER and who not in _SUPPORTER:
            raise record.error(f'{what} has no "speaker" that is seeker or supporter, usr or sys', _EXAMPLE)
        if not isinstance(text, str):
            raise record.error(f"{what} has no text", _EXAMPLE)
        if not text.strip():
            talks.note("talks have a blank text, which is left out", record)
        yield Said(who in _SUPPORTER, text.strip(), _strategies(record, each, talks) if who in _SUPPORTER else ())


def _strategies(record: Record, said: dict[str, Any], talks: Talks) -> tuple[str, ...]:
    annotation = said.get("annotation")
    named = said.get("strategy") or (annotation.get("strategy") if isinstance(annotation, dict) else None)
    if not isinstance(named, str) or not (named := named.strip().strip("[]").strip()):
        return ()
    if (known := _KNOWN.get(named.lower())) is None:
        talks.note("strategies are not of ESConv's eight and stay as they are", record)
    return (known or named,)
