"""Sampling parameters: how a reply is drawn from a model's distribution."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

# What every engine takes; a manifest has them whether they are set or not.
_OF_ALL = ("max_tokens", "temperature", "top_p", "seed", "stop")
# What flows and judges set, and engines without it can do without.
_OF_STAGES = ("schema", "choices", "thinking_budget")


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters of a reply. Temperature 0 (greedy) is the paper's setting (section 4.4).

    Those that a user can set have the names and the meaning that vLLM gives them; `models/sampling.py` validates them.

    Attributes:
        max_tokens: Longest reply, in tokens, without thinking if that has a budget.
        schema: A JSON schema, as text, that the engine enforces if it can.
        repetition_penalty: How much less likely tokens become that the prompt or the reply already has; 1 for not at
            all. vLLM's server takes it and OpenAI's does not, so it is sent only if it is not 1.
        choices: The only answers; an engine that can gives the probability of each (`Completion.choices`), at
            temperature 1 whatever `temperature` is.
        thinking_budget: The most tokens of thinking before the reply, besides `max_tokens`; None if the model does not
            think.
        min_tokens: Shortest reply, in tokens.
        top_k: Draw among this many of the likeliest tokens; 0 for all.
        min_p: Draw among tokens with at least this share of the likeliest one's probability; 0 for all.
        presence_penalty: What a token loses, in logits, once the reply has it; 0 for nothing.
        frequency_penalty: The same, for each time that the reply has it.
        stop_token_ids: Ids of tokens that end the reply.
        include_stop_str_in_output: Whether the reply keeps the stop string that ended it.
        ignore_eos: Whether the model's own end of a text is ignored, so that `max_tokens` ends it.
        bad_words: Words that the reply does not have.
        allowed_token_ids: Ids of the only tokens that may be drawn; empty for all.
        logit_bias: Token ids, each with what is added to its logit.
        choice: The only texts that the reply can be; none of them has a probability, unlike `choices`.
        regex: A regular expression that the reply matches.
        grammar: A grammar that the reply is of, in EBNF.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: str | None = None
    repetition_penalty: float = 1.0
    choices: tuple[str, ...] = ()
    thinking_budget: int | None = None
    min_tokens: int = 0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    bad_words: tuple[str, ...] = ()
    allowed_token_ids: tuple[int, ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()
    choice: tuple[str, ...] = ()
    regex: str | None = None
    grammar: str | None = None

    @property
    def most_tokens(self) -> int:
        """The most tokens that one answer can have, thinking included."""
        return self.max_tokens + (self.thinking_budget or 0)

    @property
    def further(self) -> dict[str, Any]:
        """What is set of the parameters that not every engine takes, by name, in the form that requests have."""
        names = [name for name in _DEFAULTS if name not in (*_OF_ALL, *_OF_STAGES)]
        told = {name: value for name in names if (value := getattr(self, name)) != _DEFAULTS[name]}
        told |= {name: list(value) for name, value in told.items() if isinstance(value, tuple)}
        return told | ({"logit_bias": {str(token): bias for token, bias in self.logit_bias}} if self.logit_bias else {})

    @property
    def form(self) -> dict[str, Any]:
        """What the reply is held to besides a JSON schema: one of `choice`, `regex` and `grammar`, or nothing."""
        return {name: value for name in ("choice", "regex", "grammar") if (value := getattr(self, name))}

    def before_reply(self) -> Self:
        """Return the parameters for a strategy's other stages: what says how long, or of what form, is the reply's."""
        reply = ("min_tokens", "schema", "choice", "regex", "grammar")
        held = {name: _DEFAULTS[name] for name in reply if getattr(self, name) != _DEFAULTS[name]}
        return replace(self, **held) if held else self

    def told(self) -> dict[str, Any]:
        """Return the parameters in short, for people: those that differ from vLLM's own, and how long a reply is."""
        told = {name: value for name, value in self.describe().items() if value != _DEFAULTS[name]}
        return {"temperature": self.temperature, "max_tokens": self.max_tokens} | told

    def describe(self) -> dict[str, Any]:
        """Return the parameters for a manifest; those that most runs lack only if they are set."""
        return {name: value for name, value in asdict(self).items() if name in _OF_ALL or value != _DEFAULTS[name]}


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(Sampling)}
