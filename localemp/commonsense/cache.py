"""What COMET said, kept for good, so that nothing is ever inferred twice.

An answer is found by everything that decides it: the settings (checkpoint's hash, how it is asked and decoded), the
relation, and what the encoder saw of the event. Events that differ only in what was cut off share their answers. The
file (`checked_values.py`) holds hashes of all that, never the text of an event.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from localemp.commonsense.checked_values import CheckedValues
from localemp.commonsense.relations import Answer, Beam
from localemp.errors import OptionError
from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.paths import cache_dir

MOST_VARIABLE = "LOCALEMP_INFERENCES_MAX"
_MOST = 512 * 2**20

# Beside the relations' names: how many characters of an event its encoder did not see.
_CUT = ""


class InferenceCache:
    """Answers of COMET on disk. One thread at a time may use an instance; any number of processes may use the file.

    Args:
        path: The file; made where it does not exist. By default in localemp's cache.
        most: Bytes that it may have; beyond, the oldest answers go. By default $LOCALEMP_INFERENCES_MAX, else 512 MiB.

    Raises:
        OptionError: $LOCALEMP_INFERENCES_MAX is no size.
        LocalempError: The file cannot be opened or made (a full disk, a path that is none).
    """

    def __init__(self, path: Path | None = None, most: int | None = None) -> None:
        self.path = path or cache_dir("commonsense", "inferences.sqlite")
        self._values = CheckedValues(self.path, most or _most_by_default(), _former_entries)

    def get(self, settings: Mapping[str, Any], events: Iterable[str], relations: Sequence[str]) -> dict[str, Answer]:
        """What is known of these events: of each those of the relations that are known, and how much of it was cut."""
        key_of = _Keys(_text_of(settings))
        asked = list(dict.fromkeys(events))
        cuts = self._values.get(key_of(_CUT, event) for event in asked)
        cut_of = {event: _as_cut(cuts.get(key_of(_CUT, event)), event) for event in asked}
        wanted = {
            key_of(relation, event[cut:]): (event[cut:], relation)
            for event, cut in cut_of.items()
            for relation in relations
        }
        found = self._values.get(wanted)
        beams_of: dict[str, dict[str, tuple[Beam, ...]]] = defaultdict(dict)
        for key, (text, relation) in wanted.items():
            if (beams := _as_beams(found.get(key))) is not None:
                beams_of[text][relation] = beams
        answers = {event: Answer(beams_of.get(event[cut:], {}), cut) for event, cut in cut_of.items()}
        return {event: answer for event, answer in answers.items() if answer.beams or answer.cut}

    def put(self, settings: Mapping[str, Any], answers: Mapping[str, Answer]) -> None:
        """Keep the answers to these events, all of them or, where that fails, none.

        Raises:
            LocalempError: The file cannot be written.
        """
        key_of = _Keys(_text_of(settings))
        self._values.put(dict(entry for event, answer in answers.items() for entry in _entries(key_of, event, answer)))

    def close(self) -> None:
        """Let go of the file."""
        self._values.close()


class _Keys:
    """Under what the answers of one COMET are kept.

    Args:
        settings: As JSON, which has no NUL, and neither has a relation: no two questions have the same key.
    """

    def __init__(self, settings: str) -> None:
        self._settings = hashlib.sha256(settings.encode() + b"\0")

    def __call__(self, relation: str, text: str) -> bytes:
        key = self._settings.copy()
        key.update(f"{relation}\0{text}".encode(errors="surrogatepass"))
        return key.digest()


def _entries(key_of: _Keys, event: str, answer: Answer) -> Iterator[tuple[bytes, bytes]]:
    if answer.cut:
        yield key_of(_CUT, event), str(answer.cut).encode()
    for relation, beams in answer.beams.items():
        value = _text_of([[beam.text, beam.score] for beam in beams]).encode(errors="surrogatepass")
        if _as_beams(value) is not None:  # a score that is no number is no answer
            yield key_of(relation, event[answer.cut :]), value


def _former_entries(connection: sqlite3.Connection) -> Iterator[tuple[bytes, bytes]]:
    """What version 0.1 kept, one row for every event and relation."""
    rows = connection.execute(
        "SELECT json, event, relation, beams, cut FROM answers JOIN settings ON settings.id = answers.settings"
    )
    for *texts, cut in rows:
        with contextlib.suppress(UnicodeDecodeError, AttributeError):  # what a bad disk left there
            settings, event, relation, beams = (text.decode() for text in texts)
            if isinstance(cut, int) and 0 <= cut < len(event) and (known := _as_beams(beams.encode())) is not None:
                yield from _entries(_Keys(settings), event, Answer({relation: known}, cut))


def _as_beams(value: bytes | None) -> tuple[Beam, ...] | None:
    """The beams of a value; None where there are none, or something else."""
    try:
        beams = tuple(Beam(text, score) for text, score in parse_json(value or b""))
    except (JSONError, ValueError, TypeError):
        return None
    return beams if all(map(_is_beam, beams)) else None


def _is_beam(beam: Beam) -> bool:
    if not isinstance(beam.text, str):
        return False
    return beam.score is None or (isinstance(beam.score, float) and math.isfinite(beam.score))


def _as_cut(value: bytes | None, event: str) -> int:
    return int(value) if value and value.isdigit() and len(value) < 10 and int(value) <= len(event) else 0


def _text_of(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _most_by_default() -> int:
    given = os.environ.get(MOST_VARIABLE, "")
    if not given:
        return _MOST
    size = re.fullmatch(r"([1-9][0-9]{0,14})([kMG]?)", given)
    if size is None:
        raise OptionError(f"{MOST_VARIABLE}={given[:40]} is no size", "give bytes, such as 200000000, 200M or 2G")
    return int(size[1]) * _UNITS[size[2]]


_UNITS = {"": 1, "k": 2**10, "M": 2**20, "G": 2**30}
