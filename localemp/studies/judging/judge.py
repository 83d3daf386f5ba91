"""A model as a rater: the questions, and a folder for the answers; `verdicts.py` turns them into votes.

    judges/NAME/manifest.json   settings and sessions, as a run has them
    judges/NAME/votes.jsonl     append-only; one line for each item, aspect, order and vote: sent, received, read

Every pair is shown in both orders. A rating is about one reply.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.engines.planner import Planner
from localemp.engines.spending import Account, PaidAnswer
from localemp.errors import EngineError, JudgeError, OptionError, RefusalError
from localemp.pipeline.generate import Tally, failed_alone, for_all
from localemp.runs.journal import Journal
from localemp.runs.judge_answers import VOTES, check_answer, question_id
from localemp.runs.session_bill import SessionBill
from localemp.sampling import Sampling
from localemp.studies.judging.parsing import Parsed, parse_choice, parse_letter, parse_rating, parse_verdict
from localemp.studies.judging.prompts import JudgePrompts
from localemp.studies.study import Study
from localemp.studies.votes import quoted
from localemp.utils.progress import OnProgress, each_second, silent

ENOUGH, TOO_MANY = 20, 0.2  # answers after which a judge is given up, and the share of them that cannot be read


@dataclass(frozen=True, slots=True)
class Question:
    """One question to a judge.

    Attributes:
        item, aspect: What about.
        shown: Keys of the two replies in the order in which they are shown, or of the one to be rated.
        vote: 0 for the first time that exactly this is asked, 1 for the second, ...
    """

    item: str
    aspect: str
    shown: tuple[str, ...]
    vote: int

    @property
    def id(self) -> str:
        """The question's id, unique in a study since reply keys are."""
        return question_id(self.shown, self.aspect, self.vote)


def questions(study: Study, votes: int = 1, limit: int | None = None) -> list[Question]:
    """Return all questions to a judge, those that share a prefix next to each other.

    Args:
        study: The study.
        votes: How many times each question is asked.
        limit: Judge only this many items, from the start.
    """
    asked = []
    for item in study.items[:limit]:
        keys = tuple(reply.key for reply in item.replies)
        for shown in (keys, keys[::-1]) if study.manifest.kind == "ab" else [(key,) for key in keys]:
            for aspect in study.manifest.aspects:
                asked += [Question(item.id, aspect.name, shown, vote) for vote in range(votes)]
    return asked


class Judge:
    """Ask a model the questions of a study.

    Args:
        study: What is judged.
        prompts: Their texts.
        sampling: How answers are drawn; the schema is added. Further votes have further seeds.
        votes: How many times each question is asked.

    Raises:
        OptionError: Several votes that would all be the same, or prompts without a text for this study.
    """

    def __init__(self, study: Study, prompts: JudgePrompts, sampling: Sampling, votes: int = 1) -> None:
        prompts.check_asks(study.manifest.kind, study.manifest.aspects)
        if votes > 1 and prompts.answers == "probabilities":
            raise OptionError(
                f"--votes {votes}: probabilities of answers are the same every time",
                "leave it out, or --answers written",
            )
        if votes > 1 and not sampling.temperature:
            raise OptionError(
                f"--votes {votes} at temperature 0 would be the same answer {votes} times",
                "add --temperature 0.7, or leave out --votes",
            )
        self.study, self.prompts, self.votes = study, prompts, votes
        self._choices, self._verdicts = prompts.choices(study.manifest), prompts.verdicts(study.manifest)
        self.sampling = replace(sampling, schema=prompts.answer_schema(study.manifest), choices=tuple(self._choices))
        self._aspects = {aspect.name: aspect for aspect in study.manifest.aspects}

    def describe(self) -> dict[str, Any]:
        """Return the settings that can change the answers, except the model; recorded in the manifest."""
        manifest, prompts = self.study.manifest, self.prompts
        settings: dict[str, Any] = {
            "items_sha256": manifest.items_sha256,
            "kind": manifest.kind,
            "question": manifest.question,
            "aspects": {aspect.name: aspect.about for aspect in manifest.aspects},
            "scale": manifest.scale,
            "scale_words": manifest.scale_words,
            "prompts": prompts.name,
            "prompts_sha256": prompts.sha256,
            "votes": self.votes,
            "sampling": self.sampling.describe(),
        }
        if prompts.answers == "probabilities":
            settings |= {"answers": prompts.answers, "margin": prompts.margin, "least_mass": prompts.least_mass}
        return settings if prompts.verdict is None else settings | {"verdict": prompts.verdict}

    def messages(self, question: Question) -> list[Message]:
        """Return the prompt of a question."""
        item, aspect = self.study.by_id[question.item], self._aspects[question.aspect]
        return self.prompts.messages(self.study.manifest, item, aspect, question.shown)

    def read(self, text: str) -> Parsed:
        """Parse a written answer."""
        scale = self.study.manifest.scale
        if self.prompts.verdict is not None:
            return parse_verdict(text, self.prompts.verdict, self._verdicts)
        if scale is not None:
            return parse_rating(text, scale)
        letters = self.prompts.letters
        alone = letters and parse_letter(text, {letters.A: "A", letters.B: "B", letters.tie: "tie"})
        return alone or parse_choice(text)

    def measured(self, completion: Completion) -> dict[str, Any]:
        """Return what is recorded of an answer: the probability of each where they are known, and the likeliest.

        What is not known by its probability is read from what the model wrote.
        """
        chosen, mass = completion.choices, completion.choice_mass
        if chosen is None or mass is None or (mass < self.prompts.least_mass and completion.text not in self._choices):
            read = self.read(completion.require_text())
            return {"answer": read.value, "problem": read.problem}
        if mass < self.prompts.least_mass:
            problem = f"all answers together have a probability of {mass:.2g}"
            return {"answer": None, "problem": problem, "choice_mass": mass}
        probabilities = {answer: chosen[text] for text, answer in self._choices.items()}
        likeliest = max(probabilities, key=probabilities.__getitem__)
        return {"answer": likeliest, "problem": "", "probabilities": probabilities, "choice_mass": mass}

    async def plan(self, asked: Sequence[Question], planner: Planner) -> int:
        """Return the context length that the longest prompt and its answer need, in tokens."""
        for number, question in enumerate(asked):
            if question.vote == 0:
                with suppress(
                    EngineError
                ):  # too long, or refused: it fails again when it is asked, and is recorded then
                    await planner.chat(self.messages(question), self.sampling)
            if number % 32 == 0:
                await asyncio.sleep(0)  # lets Ctrl-C in
        return planner.context_needed

    async def ask_all(
        self,
        asked: Sequence[Question],
        engine: Engine,
        answers: "JudgeLog",
        on_progress: OnProgress = silent,
    ) -> Tally:
        """Ask, and write each answer as it arrives. A failed question is recorded and does not stop the others.

        Raises:
            JudgeError: Too many answers cannot be read.
            FatalEngineError: No further answer can be had.
            RunError: The folder cannot be written. Whatever stops it, what was answered is in the folder.
        """
        tally = Tally(len(asked), bill=answers.bill.of_what_follows())
        session_bill = SessionBill(answers, found_again=engine.finds_again)

        async def ask(question: Question) -> None:
            messages, sampling = self.messages(question), self.sampling
            if sampling.seed is not None:
                sampling = replace(sampling, seed=sampling.seed + question.vote)

            def answered(completion: Completion, found: Mapping[str, Any]) -> dict[str, Any]:
                sent = {"messages": [asdict(message) for message in messages], "seed": sampling.seed}
                received = replace(completion, choices=None, choice_mass=None).record()
                return {"id": question.id} | asdict(question) | sent | received | dict(found)

            with session_bill.account() as account:
                try:
                    completion = await engine.chat(messages, sampling)
                    line = answered(completion, self.measured(completion))
                except RefusalError as error:  # it would refuse again
                    line = answered(_refusal(account), {"answer": None, "problem": error.message})
                except Exception as error:
                    line = failed_alone(question.id, error) | asdict(question)
                line = session_bill.finished(line, account)
                answers.append(line)
            tally.add(line)
            show()
            answers.check()

        def show() -> None:
            on_progress(tally.progress("answers", status=engine.status()))

        try:
            async with each_second(lambda: show() if engine.status() else None):
                await for_all(asked, ask, engine.concurrency)
        finally:
            session_bill.end(tally.bill)
        tally.ended = time.perf_counter()
        return tally


def _refusal(account: Account) -> Completion:
    """Return what is recorded of a refusal: no text, and what it cost; nothing, if the prompt itself was blocked."""
    paid = account.answers[-1] if account.answers else PaidAnswer("", "", 0, 0, 0, 0, 0.0)
    return Completion(
        text="",
        finish_reason="refusal",
        prompt_tokens=paid.prompt_tokens,
        completion_tokens=paid.completion_tokens,
        cached_tokens=paid.cached_tokens,
        cost=paid.cost,
        thinking_tokens=paid.thinking_tokens,
        tier=paid.tier,
        response_id=paid.response_id,
    )


class JudgeLog(Journal):
    """A judge's folder, open for writing: resumes where it stopped, and rejects other settings."""

    lines = VOTES
    option = "--name"

    def __init__(self, folder: Path) -> None:
        self._unparsable, self._example = 0, ""
        self._mass: float | None = None  # of the example, if that is what is wrong with it
        super().__init__(folder)

    @staticmethod
    def check_line(record: dict[str, Any]) -> None:
        """See `check_answer`."""
        check_answer(record)

    def note(self, record: Mapping[str, Any]) -> None:
        """Also count unparsable answers."""
        super().note(record)
        if "error" not in record and record["answer"] is None:
            self._unparsable, self._example = self._unparsable + 1, record["text"] or record["problem"]
            self._mass = record.get("choice_mass")

    def hint(self) -> str:
        """Return what to do where answers cannot be read."""
        settings = self.manifest["settings"]
        if settings.get("answers") == "probabilities":
            return "ask for JSON with --answers written, or take another --model, each with another --name"
        if "verdict" in settings:
            return "take another --model, or more --max-tokens if the verdict is cut off, each with another --name"
        return "take another --model, one that can be held to JSON, or more --max-tokens, each with another --name"

    def check(self) -> None:
        """Raise JudgeError where too many answers cannot be read."""
        total = len(self.answered)
        if total < ENOUGH or self._unparsable <= TOO_MANY * total:
            return
        if self._mass is not None:
            raise JudgeError(
                f"the model does not answer as it was asked to in {self._unparsable} of {total} cases: all answers "
                f"together have a probability of {self._mass:.2g}, say; all are kept in {self.folder}",
                self.hint(),
            )
        raise JudgeError(
            f"{self._unparsable} of {total} answers cannot be read, such as {quoted(self._example)}; "
            f"all are kept in {self.folder}",
            self.hint(),
        )
