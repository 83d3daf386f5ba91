"""Small experiments: six dialogues, scripted models, and an engine of this process that does what its profile says."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tiny_tokenizer import write_tokenizer

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.engines.registry import EngineContext
from localemp.errors import FatalEngineError
from localemp.experiments.plan import Plan
from localemp.sampling import Sampling

IDS = [f"d{number}" for number in range(6)]
ROWS = ({"name": "0-shot", "strategy": "zero-shot"}, {"name": "staged", "strategy": "two-stage"})
NOTHING = {"score": False, "report": False}


def write_talks(folder: Path, ids: Sequence[str] = IDS, **known: str) -> str:
    """A file of dialogues; returns its path."""
    path = folder / "talks.jsonl"
    talks = [{"id": name, "turns": [f"Story number {name}."], **known} for name in ids]
    path.write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    return str(path)


def write_script(folder: Path, *entries: Mapping[str, Any], name: str = "script") -> Path:
    """A script; an entry that answers everything comes last."""
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in [*entries, {"reply": "Tell me more."}]))
    return path


def plan_of(folder: Path, rows: Sequence[Mapping[str, Any]] = ROWS, **fields: Any) -> Plan:
    """A plan over six dialogues, with nothing to do afterwards."""
    return Plan(**{"name": "mine", "data": write_talks(folder), "rows": list(rows), "after": NOTHING, **fields})


class LocalEngine(Engine):
    """An engine that runs here; it dies after as many replies as its profile says.

    Attributes:
        events: What all such engines did, in order: ("start", "one"), ("close", "one"), ...
    """

    name = "local"
    concurrency = 2
    events: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, context: EngineContext) -> None:
        self.model, told = context.profile.name, context.profile.request
        self.left = told.get("dies_after")
        self.starts = told.get("starts", True)

    async def start(self) -> None:
        self.events.append(("start", self.model))
        if not self.starts:
            raise FatalEngineError("no memory is left", "buy some")

    async def close(self) -> None:
        self.events.append(("close", self.model))

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        if self.left == 0:
            raise FatalEngineError("the engine died", "see its log")
        self.left = None if self.left is None else self.left - 1
        self.events.append(("chat", self.model))
        return Completion("Oh no.", "stop", 12, 3)

    def describe(self) -> dict[str, Any]:
        return {"engine": self.name}


def write_local_model(folder: Path, name: str, **request: Any) -> str:
    """The profile of a model that runs here, with weights that nobody reads; returns its path."""
    weights = write_tokenizer(folder / f"weights-{name}")
    (weights / "config.json").write_text('{"max_position_embeddings": 4096}')
    (weights / "model.safetensors").write_bytes(b"weights")
    told = "".join(f"{key} = {json.dumps(value)}\n" for key, value in request.items())
    path = folder / f"{name}.toml"
    path.write_text(f'kind = "chat"\nengine = "local"\npath = "{weights}"\n\n[request]\n{told}')
    return str(path)
