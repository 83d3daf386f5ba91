"""A flow with one stage of every kind, and a script that answers it."""

import json
from pathlib import Path

FLOW = """
about = "one stage of every kind"

[[stages]]
name = "support"
ask = "Which support of: {labels}?"
labels = ["Question", "Others", "Reflection"]
otherwise = "Others"
sampling = { max_tokens = 16 }

[[stages]]
name = "appraisal"
ask = "Appraise as JSON."
schema = { type = "object", properties = { cause = { type = "string" } }, required = ["cause"] }

[[stages]]
name = "why"
ask = "Why a question?"
when = { support = ["Others"] }

[[stages]]
name = "reply"
ask = "Because of {appraisal.cause}: {branch} {why}"
n = 3
sampling = { temperature = 0.8 }
choose = { task = "You are a judge.", ask = "Which is best?\\n{candidates}\\nAnswer with the number." }
[stages.branch.support]
Question = "Ask a question."
Others = "Say something."
Reflection = "Reflect what was said, at length."
"""

SCRIPT = (
    {"match": "Which support", "reply": ["I would go with a question.", "Hard to say."]},
    {"match": "Appraise", "reply": 'Sure: {"cause": "a loss"}'},
    {"match": "Which is best", "reply": "Number 2."},
    {"match": "Why a question", "reply": "Because."},
    {"reply": ["One.", "Two.", "Three."]},
)
"""In which the first dialogue skips the stage "why"."""


def write_flow(folder: Path, name: str = "mine", text: str = FLOW) -> Path:
    """Write the flow, and the script beside it as "script.jsonl"; return the flow's file."""
    path = folder / f"{name}.toml"
    path.write_text(text)
    (folder / "script.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in SCRIPT))
    return path
