"""P(choice): how probably a judge, a model, prefers a system's reply to people's reply (the reference).

    P(choice) = 100 * mean over all dialogues of (p + 1 - q) / 2
    p: the judge's probability for the reply when it is shown first, q: for the reference when that is shown first

Half of the probability of a tie is each reply's. Both orders count the same, so that what a reply gains by its place it
loses again: 50 is a system whose replies are as good as people's in the eyes of the judge.

It needs a judge: `localemp score --judge MODEL` asks it and keeps its answers (`studies/judging/preferences.py`), and
the metric here reads them.

    RUN/choices/JUDGE/ASPECT/manifest.json     the judge, its prompts, versions and machine of each session
    RUN/choices/JUDGE/ASPECT/votes.jsonl       a line for each dialogue and order, as a study's judge has them

Replies from elsewhere have the folder FILE.choices beside their file.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from localemp.errors import OptionError, RunError
from localemp.metrics.base import MeanOfReplies, Metric, Setting, Statistics, check_same_items
from localemp.metrics.replies import Replies, Reply
from localemp.metrics.significance import Interval, value_interval
from localemp.runs.journal import MANIFEST, newest, read_lines, read_manifest
from localemp.runs.judge_answers import VOTES, check_answer, first_share, folder_name, question_id

OPTION = "--judge MODEL"
# Of a judge's settings: what decides whether two values are comparable, where it is there.
_SIGNED = ("weights_sha256", "served_model", "base_url", "chat_template_kwargs", "engine_args")
_NOT_COMPARED = "engine"
_OF_PROMPTS = ("schema", "choices")  # of the sampling, what follows from the prompts

# Of a question: the share of the reply shown first; None where the answer is not readable.
_Answers = Mapping[str, float | None]


def choices_folder(replies: Replies) -> Path | None:
    """Return where the choices of judges about a system's replies are kept; None if these are nowhere on disk."""
    if "run" in replies.source:
        return Path(replies.source["run"]) / "choices"
    if "file" in replies.source:
        file = Path(replies.source["file"])
        return file.with_name(f"{file.name}.choices")
    return None


def pair_keys(item: Reply) -> tuple[str, str]:
    """Return the keys of a reply and of its reference; others once the dialogue, the reply or the reference is."""
    told = json.dumps([item.id, item.turns, item.text, item.reference])
    digest = hashlib.sha256(told.encode()).hexdigest()[:16]
    return f"reply-{digest}", f"reference-{digest}"


def unanswerable(replies: Replies) -> str:
    """Return why no judge can be asked about these replies; empty if one can."""
    if without := replies.without_reference():
        return without
    if unknown := sum(not item.turns for item in replies.items):
        return f"the conversations before {unknown:,} of {len(replies):,} replies are not known"
    return "" if choices_folder(replies) is not None else "it is neither a run nor a file, where answers could be kept"


def judge_folder(replies: Replies, judge: str = "", aspect: str = "") -> Path | None:
    """Return the folder of a judge's choices; None if there is none.

    Args:
        replies: Of a system.
        judge: The judge's name, or that of its folder; empty for the one that was asked last.
        aspect: The aspect; empty for the one that was asked last.

    Raises:
        RunError: A manifest is damaged.
    """
    found = [
        folder
        for folder in _folders(replies)
        if (not judge or folder.parent.name == folder_name(judge))
        and (not aspect or folder.name == folder_name(aspect))
    ]
    return max(found, key=_asked_at, default=None)


def _folders(replies: Replies) -> list[Path]:
    place = choices_folder(replies)
    return [] if place is None else [path.parent for path in place.glob(f"*/*/{MANIFEST}")]


def _asked_at(folder: Path) -> tuple[str, int]:
    sessions = read_manifest(folder)["sessions"]
    return max((session["started"] for session in sessions), default=""), (folder / MANIFEST).stat().st_mtime_ns


class Choice(Metric):
    """P(choice), in percent.

    Args:
        judge: Whose choices, see `judge_folder`.
        aspect: By which aspect.
    """

    name, group, decimals = "P(choice)", "choice", 1

    def __init__(self, judge: str = "", aspect: str = "") -> None:
        self._judge, self._aspect = judge, aspect
        self._read: dict[Path | None, tuple[Mapping[str, Setting], _Answers, str]] = {}

    def settings(self) -> Mapping[str, Setting]:
        """Return what is the same for all judges."""
        return {"against": "references", "orders": "both", "ties": "half", "unreadable": "half"}

    def settings_of(self, replies: Replies) -> Mapping[str, Setting]:
        """Return also the judge, what it was asked, how its answers were had, and its engine."""
        return {**self.settings(), **self._kept(replies)[0]}

    def missing(self, replies: Replies) -> str:
        """Return why a system has no value: nobody to compare with, or a judge was not asked about all replies."""
        signed, answers, damage = self._kept(replies)
        if reason := unanswerable(replies) or damage:
            return reason
        if not signed:
            kept = ", ".join(sorted({folder.parent.name for folder in _folders(replies)}))
            others = f", but {kept}" if kept else ""
            which = " ".join(filter(None, ["no judge", self._judge, self._aspect and f"of {self._aspect}"]))
            return f"{which} was asked{others}; `localemp score {OPTION}` asks one"
        lacking = sum(not all(question in answers for question in _questions(item, signed)) for item in replies.items)
        if not lacking:
            return ""
        goes_on = f"`localemp score --judge {signed['judge']}` goes on"
        return f"{signed['judge']} has not judged {lacking:,} of {len(replies):,} dialogues; {goes_on}"

    def interval(self, replies: Replies) -> Interval | None:
        """Return the 95 % interval of a system's value, by bootstrap over the dialogues; None if there is none."""
        return None if self.missing(replies) else value_interval(self.statistics([replies]), len(replies))

    def unreadable(self, replies: Replies) -> int:
        """Return how many answers about these replies cannot be read; such a one counts as half."""
        signed, answers, _ = self._kept(replies)
        asked = [question for item in replies.items for question in _questions(item, signed)]
        return sum(question in answers and answers[question] is None for question in asked)

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return the probability of every reply of every system.

        Raises:
            OptionError: The systems answer different items, or were not judged in the same way.
        """
        check_same_items(systems)
        signed = [self._kept(system)[0] for system in systems]
        compared = [{name: value for name, value in each.items() if name != _NOT_COMPARED} for each in signed]
        if any(each != compared[0] for each in compared):
            told = " and ".join(dict.fromkeys(f"{each['judge']} ({each['aspect']})" for each in signed))
            raise OptionError(
                f"they were not judged in the same way, but by {told}",
                "ask one judge about both: localemp score A B --judge MODEL",
            )
        return MeanOfReplies(
            np.array([100 * self._of(system, item) for system in systems for item in system.items], np.float64)
        )

    def _of(self, system: Replies, item: Reply) -> float:
        signed, answers, _ = self._kept(system)
        first, second = (_known(answers[question]) for question in _questions(item, signed))
        return (first + 1 - second) / 2

    def _kept(self, replies: Replies) -> tuple[Mapping[str, Setting], _Answers, str]:
        """Return what a signature says of a system's judge, the judge's answers, and what is wrong with them."""
        key = choices_folder(replies)
        if key not in self._read:
            try:
                folder = judge_folder(replies, self._judge, self._aspect)
                self._read[key] = ({}, {}, "") if folder is None else (*_read(folder), "")
            except RunError as error:
                self._read[key] = {}, {}, error.message
            except OSError as error:
                self._read[key] = {}, {}, f"{key}: cannot be read: {error.strerror or error}"
        return self._read[key]


def _known(share: float | None) -> float:
    return 0.5 if share is None else share


def _questions(item: Reply, signed: Mapping[str, Setting]) -> tuple[str, str]:
    """Return the ids of both questions about a reply, that which shows the reply first before the other."""
    keys = pair_keys(item)
    aspect = str(signed.get("aspect", ""))
    return question_id(keys, aspect), question_id(keys[::-1], aspect)


def _read(folder: Path) -> tuple[Mapping[str, Setting], _Answers]:
    states = [path.stat() for path in (folder / MANIFEST, folder / VOTES)]
    return _read_as_of(folder.resolve(), tuple((state.st_mtime_ns, state.st_size) for state in states))


@lru_cache(maxsize=32)  # every table asks which systems have a value before it shows these
def _read_as_of(folder: Path, _: object) -> tuple[Mapping[str, Setting], _Answers]:
    lines = [line for line in newest(read_lines(folder / VOTES, check_answer)) if "error" not in line]
    measured = any(line.get("probabilities") for line in lines)
    return _signed(read_manifest(folder), measured), {line["id"]: first_share(line) for line in lines}


def _signed(manifest: Mapping[str, Any], measured: bool) -> Mapping[str, Setting]:
    settings, sessions = manifest["settings"], manifest["sessions"]
    aspects = settings.get("aspects")
    aspect, about = next(iter(aspects.items()), ("", "")) if isinstance(aspects, dict) else ("", "")
    asked = hashlib.sha256(json.dumps([settings.get("question"), about]).encode()).hexdigest()
    judge = "@".join(str(settings[name]) for name in ("model", "adapter") if settings.get(name))
    told: dict[str, Setting] = {"judge": judge}
    more = [name for name in settings if name in _SIGNED or name.startswith("adapter_")]
    told |= {name.replace("_", " "): _plain(settings[name]) for name in more if settings[name]}
    told |= {
        "aspect": str(aspect),
        "question sha256": asked[:8],
        "prompts": _plain(settings.get("prompts")),
        "prompts sha256": _plain(settings.get("prompts_sha256")),
        # A server that was asked for probabilities may have given none.
        "answers": "probabilities" if measured else "written",
    }
    if not measured and isinstance(sampling := settings.get("sampling"), dict):
        told["sampling"] = _plain({name: value for name, value in sampling.items() if name not in _OF_PROMPTS})
    engine = _plain(settings.get("engine"))
    versions = dict.fromkeys(str(session[engine]) for session in sessions if engine in session)
    return told | {_NOT_COMPARED: " ".join(filter(None, [str(engine or ""), ", ".join(versions)]))}


def _plain(value: object) -> Setting:
    return value if isinstance(value, str | int | float | bool | None) else json.dumps(value, sort_keys=True)


def intervals_in_words(found: Mapping[str, Interval | None]) -> str:
    """Return the intervals of systems by name, in a sentence; empty if none has one."""
    told = [f"{name} {ends[0]:.1f} to {ends[1]:.1f}" for name, ends in found.items() if ends is not None]
    if not told:
        return ""
    which = f"95 % intervals of {Choice.name}, by bootstrap over the dialogues"
    return f"{which}: {', '.join(told)}; 50 is as good as people's"
