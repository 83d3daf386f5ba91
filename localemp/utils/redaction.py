"""Masks secrets in everything that is stored or shown: command lines, settings, errors.

A secret is recognized by its name ("hf_token=...", "--api-key ...", {"Authorization": ...}) or its form
("http://user:password@host", "Bearer ...", "sk-...", "hf_..."); without either, it looks like any other text.
"""

import json
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.text import well_formed

MASK = "***"

# A name is secret if it contains one of these, or one of these words; likely words not next to words of tokenizers.
_ANYWHERE = re.compile(
    "password|passwd|passphrase|secret|credential|cookie|authorization|bearer|(?:api|access)(?:key|token)"
)
_SURE_WORDS = frozenset(["auth", "jwt", "oauth", "pwd", "sig", "signature"])
_LIKELY_WORDS = frozenset(["key", "token", "hftoken", "authtoken"])
_OF_TOKENIZERS = frozenset(["bos", "cls", "eos", "id", "ids", "index", "mask", "pad", "sep", "sha", "stop", "threshold",
                            "tree", "unk", "audio", "image", "video"])  # fmt: skip
_WORD = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

# No pattern can start within text that it has already scanned, so that all run in linear time.
_NAME = re.compile(r"(?<![\w.-])([\w.-]++)([\"']?\s*+[=:]\s*+)")
_VALUE = re.compile(r"\"(?:[^\"\\]|\\.)*+\"|'[^']*+'|(?:(?:[Bb]earer|[Bb]asic|[Tt]oken)\s++)?[^\s\"'&,;}\])]++")
_SHAPES = re.compile(
    r"(?<=\b[Bb]earer )[\w.~+/=-]{6,}"
    r"|(?<![\w-])(?:sk|pk|rk|xox[a-z]|glpat|nvapi)-(?=[\w-]*\d)[\w-]{12,}"
    r"|(?<![\w-])(?:hf|gh[oprsu]|gsk|github_pat|api_org)_(?=\w*\d)\w{12,}"
    r"|(?<![\w-])(?:AKIA|AIza|eyJ)[\w-]{12,}(?:\.[\w-]++)*+"
)
_ARGUMENT = re.compile(r"[\w.-]++=")
_HOST = re.compile(r"[^/?#]*+")
_HOST_AND_PORT = re.compile(r"[^:]*+:\d*+")


def shown_command(words: Iterable[str] | None = None) -> str:
    """A command line as a person would type it, without its secrets.

    Args:
        words: What follows `localemp`; by default what this process was started with, or the script that it runs.
    """
    program = Path(sys.argv[0])
    if words is None and program.name != "localemp" and program.parts[-3:] != ("localemp", "cli", "main.py"):
        return f"python {program.name}".strip()
    return shlex.join(["localemp", *redact_command(sys.argv[1:] if words is None else words)])


def redact_command(words: Iterable[str]) -> list[str]:
    """Mask secrets in the words of a command line: option values, NAME=VALUE, URLs and JSON."""
    shown = []
    first = more = False  # whether this word is the value of a secret option, or may be a further one
    for word in words:
        if first or (more and not word.startswith("-")):
            shown.append(MASK)
            first = False
            continue
        named = _ARGUMENT.match(word)
        name, value = (named[0], word[named.end() :]) if named else ("", word)
        word = name + (MASK if value and _is_secret(name) else _redact_json(value))
        # Judged in its masked form, so that masking is idempotent.
        first = more = word.startswith("-") and "=" not in word and _is_secret(word)
        shown.append(word)
    return shown


def redact_line(command: str) -> str:
    """Mask secrets in a command line given as one string."""
    try:
        words = shlex.split(command)
    except ValueError:  # an unclosed quotation mark
        words = [command]
    return shlex.join(redact_command(words))


def redact_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Mask secrets in JSON settings at any depth; a "command" is treated as a command line."""
    return {
        name: redact_line(value) if name == "command" and isinstance(value, str) else _redact(value, str(name))
        for name, value in settings.items()
    }


def mask_key(text: str, key: str) -> str:
    """Mask one key in a text, as a server may quote it.

    Args:
        text: May be truncated with "…", perhaps in the middle of the key.
        key: Empty if there is none.
    """
    if not key:
        return text
    text = text.replace(key, MASK)
    part = next((key[:size] for size in range(len(key) - 1, 3, -1) if text.endswith(f"{key[:size]}…")), "")
    return f"{text[: -len(part) - 1]}{MASK}…" if part else text


def redact_text(text: str) -> str:
    """Mask secrets in a text: an error, a note, a value."""
    text = "".join(map(_without_userinfo, re.split(r"([\s\"']++)", well_formed(text))))
    text = _SHAPES.sub(MASK, text)
    parts, done = [], 0
    for named in _NAME.finditer(text):
        # In a sentence, the text after "key: " is seldom a secret.
        in_words = named[2][0] == ":" and _WORD.fullmatch(named[1])
        if named.end() < done or not (_is_sure(named[1]) if in_words else _is_secret(named[1])):
            continue
        if (value := _VALUE.match(text, named.end())) is None or value[0].endswith(
            "..."
        ):  # "HF_TOKEN=hf_..." is advice
            continue
        quote = value[0][0] if value[0][0] in "\"'" else ""
        parts += [text[done : named.end()], quote, MASK, quote]
        done = value.end()
    return "".join([*parts, text[done:]])


def _redact(value: Any, name: str = "") -> Any:
    """Mask secrets in the value of a setting; `name` is its key, or the key of the enclosing object."""
    if isinstance(value, str):
        return MASK if value and _is_secret(name) else redact_text(value)
    if isinstance(value, Mapping):
        return {key: _redact(inner, name if _is_secret(name) else str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        if _is_secret(name) or not all(isinstance(inner, str) for inner in value):
            return [_redact(inner, name) for inner in value]
        return redact_command(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return MASK if number and _is_sure(name) else value


def _redact_json(word: str) -> str:
    """Mask secrets in a word of a command line, which may be JSON."""
    if word.startswith(("{", "[")):
        try:
            value = parse_json(word)
        except JSONError:
            return redact_text(word)
        # Unchanged if it has no secret.
        return word if (shown := _redact(value)) == value else json.dumps(shown)
    return redact_text(word)


def _is_secret(name: str) -> bool:
    words = _words(name)
    return _is_sure(name) or bool(words & _LIKELY_WORDS and not words & _OF_TOKENIZERS)


def _is_sure(name: str) -> bool:
    words = _words(name)
    return bool(words & _SURE_WORDS) or _ANYWHERE.search("".join(filter(str.isalnum, name.lower()))) is not None


def _words(name: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(name)}


def _without_userinfo(word: str) -> str:
    """Mask user and password in the URLs of a word."""
    last = word.rfind("@")
    parts, done = [], 0
    while (start := word.find("://", done) + 3) > 2 and start <= last:
        end = _HOST.match(word, start).end()  # type: ignore[union-attr]
        sign = word.rfind("@", start, end)
        host = word[start:end]
        if sign < 0 and ":" in host and not _HOST_AND_PORT.fullmatch(host):
            sign = last  # a password may hold a slash
        parts += [word[done:start], *([f"{MASK}@"] if sign >= 0 else [host])]
        done = sign + 1 if sign >= 0 else end
    return "".join([*parts, word[done:]])
