"""A persistent cache of COMET's inferences, so that nothing is inferred twice.

The key of an entry is everything that determines it: the settings (hash of the checkpoint, query, decoding), the
relation, and the part of the event that the encoder saw. Events that differ only in the part that was cut share their
entries. The file (`checked_values.py`) has only hashes of keys, never the text of an event.
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
from localemp.commonsense.inferences import Beam, EventInferences
from localemp.errors import OptionError
from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.paths import cache_dir

MAX_SIZE_VARIABLE = "LOCALEMP_INFERENCES_MAX"
_DEFAULT_SIZE = 512 * 2**20

# In place of a relation's name: the number of characters of an event that the encoder did not see.
_CUT = ""


class InferenceCache:
    """COMET's inferences on disk. An instance is for one thread at a time; any number of processes may use the file.

    Args:
        path: The file, created if it does not exist; by default in localemp's cache.
        max_bytes: Largest size; above it, the oldest entries are deleted. By default $LOCALEMP_INFERENCES_MAX, else
            512 MiB.

    Raises:
        OptionError: $LOCALEMP_INFERENCES_MAX is not a size.
        LocalempError: The file cannot be opened or created (an invalid path).
    """

    def __init__(self, path: Path | None = None, max_bytes: int | None = None) -> None:
        self.path = path or cache_dir("commonsense", "inferences.sqlite")
        self._values = CheckedValues(self.path, max_bytes or _default_size(), _former_entries)

    def get(
        self, settings: Mapping[str, Any], events: Iterable[str], relations: Sequence[str]
    ) -> dict[str, EventInferences]:
        """Return the cached relations of each event, and how much of it was cut; unknown events are left out."""
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
        answers = {event: EventInferences(beams_of.get(event[cut:], {}), cut) for event, cut in cut_of.items()}
        return {event: answer for event, answer in answers.items() if answer.beams or answer.cut}

    def put(self, settings: Mapping[str, Any], answers: Mapping[str, EventInferences]) -> None:
        """Store the inferences of these events, all or none.

        Raises:
            LocalempError: The file cannot be written.
        """
        key_of = _Keys(_text_of(settings))
        self._values.put(dict(entry for event, answer in answers.items() for entry in _entries(key_of, event, answer)))

    def close(self) -> None:
        """Close the file."""
        self._values.close()


class _Keys:
    """Computes the keys of one COMET's entries.

    Args:
        settings: The settings as JSON. Neither JSON nor a relation contains NUL, so that keys are unambiguous.
    """

    def __init__(self, settings: str) -> None:
        self._settings = hashlib.sha256(settings.encode() + b"\0")

    def __call__(self, relation: str, text: str) -> bytes:
        key = self._settings.copy()
        key.update(f"{relation}\0{text}".encode(errors="surrogatepass"))
        return key.digest()


def _entries(key_of: _Keys, event: str, answer: EventInferences) -> Iterator[tuple[bytes, bytes]]:
    if answer.cut:
        yield key_of(_CUT, event), str(answer.cut).encode()
    for relation, beams in answer.beams.items():
        value = _text_of([[beam.text, beam.score] for beam in beams]).encode(errors="surrogatepass")
        if _as_beams(value) is not None:  # not with a score that is not a number
            yield key_of(relation, event[answer.cut :]), value


def _former_entries(connection: sqlite3.Connection) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a file of version 0.1, which had one row for every event and relation."""
    rows = connection.execute(
        "SELECT json, event, relation, beams, cut FROM answers JOIN settings ON settings.id = answers.settings"
    )
    for *texts, cut in rows:
        with contextlib.suppress(UnicodeDecodeError, AttributeError):  # damaged rows
            settings, event, relation, beams = (text.decode() for text in texts)
            if isinstance(cut, int) and 0 <= cut < len(event) and (known := _as_beams(beams.encode())) is not None:
                yield from _entries(_Keys(settings), event, EventInferences({relation: known}, cut))


def _as_beams(value: bytes | None) -> tuple[Beam, ...] | None:
    """Return the beams of a value; None if it is missing or invalid."""
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


def _default_size() -> int:
    given = os.environ.get(MAX_SIZE_VARIABLE, "")
    if not given:
        return _DEFAULT_SIZE
    size = re.fullmatch(r"([1-9][0-9]{0,14})([kMG]?)", given)
    if size is None:
        raise OptionError(
            f"{MAX_SIZE_VARIABLE}={given[:40]} is not a size", "give bytes, such as 200000000, 200M or 2G"
        )
    return int(size[1]) * _UNITS[size[2]]


_UNITS = {"": 1, "k": 2**10, "M": 2**20, "G": 2**30}
