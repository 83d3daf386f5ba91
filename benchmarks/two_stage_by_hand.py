"""The two stages of `two-stage` written out in Python: what benchmarks compare the flow's file with."""

from localemp.dialogue import EMOTIONS
from localemp.prompting.render import Asked
from localemp.prompting.template import Template


def feeling(template: Template) -> Asked:
    """Return what stage 1 asks."""
    return Asked(question(template), cue=template.two_stage.cue)


def reply(template: Template, found: str) -> Asked:
    """Return what stage 2 asks, given the answer of stage 1."""
    two_stage = template.two_stage
    return Asked(question(template), ((two_stage.cue, found.strip()), ("", two_stage.reply)))


def question(template: Template) -> str:
    """Return the question for feeling and situation."""
    two_stage = template.two_stage
    labels = two_stage.labels.format(emotions=", ".join(EMOTIONS)) if two_stage.list_labels else ""
    return two_stage.ask_both.format(labels=labels)
