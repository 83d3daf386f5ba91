"""Export all answers for a spreadsheet or a program, blinded or not."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from localemp.studies.answers import AnswerStore, TimedVote
from localemp.studies.schema import TIE
from localemp.studies.study import Study
from localemp.utils import csv_writer
from localemp.utils.text import well_formed

BLINDED = ("rater", "kind", "item", "aspect", "reply", "value", "first", "seconds", "at")
UNBLINDED = ("rater", "kind", "item", "dialogue", "aspect", "system", "value", "first", "seconds", "at")


def all_votes(study: Study, answers: AnswerStore) -> list[TimedVote]:
    """Return the votes of people and files with their times, then those of judges, which have none."""
    from localemp.studies.collected_votes import read_votes

    return answers.timed_votes() + [TimedVote(vote, None, "") for vote in read_votes(study) if vote.kind == "judge"]


def lines_of(given: Iterable[TimedVote], study: Study, unblinded: bool) -> Iterator[dict[str, Any]]:
    """Yield one dict for each answer, with the columns of an export; `confidence` only if an answer has it.

    Args:
        given: The answers.
        study: What they answer.
        unblinded: Name systems and dialogues; this reads the study's key. The column `system` of an A/B test has the
            systems that were compared, "a vs b"; for an attention check, the keys of its replies.
    """
    key = study.key if unblinded else None
    given = list(given)
    is_measured = any(each.vote.confidence is not None for each in given)
    for each in given:
        vote = each.vote
        line: dict[str, Any] = {"rater": vote.rater, "kind": vote.kind, "item": vote.item}
        if key is None:
            line |= {"aspect": vote.aspect, "reply": vote.reply, "value": vote.value, "first": vote.first}
        else:
            line["dialogue"] = key.dialogues.get(vote.item, "")
            compared = [vote.reply] if vote.reply else [reply.key for reply in study.by_id[vote.item].replies]
            line |= {"aspect": vote.aspect, "system": key.named(*compared)}
            line["value"] = vote.value if vote.reply or vote.value == TIE else key.named(str(vote.value))
            line["first"] = key.named(vote.first)
        line |= {"seconds": each.seconds, "at": each.at}
        yield line | {"confidence": vote.confidence} if is_measured else line


def as_csv(lines: Iterable[dict[str, Any]], unblinded: bool) -> str:
    """Return CSV with a header line; `importing.read_ratings` reads it back unchanged."""
    lines = list(lines)
    columns = (*(UNBLINDED if unblinded else BLINDED), *(["confidence"] if lines and "confidence" in lines[0] else []))
    return csv_writer.written([columns, *([line[name] for name in columns] for line in lines)])


def as_jsonl(lines: Iterable[dict[str, Any]]) -> str:
    """Return JSON lines."""
    return "".join(well_formed(json.dumps(line, ensure_ascii=False)) + "\n" for line in lines)
