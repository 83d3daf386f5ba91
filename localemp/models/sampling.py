"""The sampling parameters that a user can set: in a profile's `[sampling]`, by `--sampling`, in a plan, in a flow."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from localemp.errors import OptionError, UnknownNameError
from localemp.sampling import Sampling
from localemp.utils.validation import format_validation_error

# What people write, and what to do instead.
ELSEWHERE: Mapping[str, str] = {
    "n": "a run keeps one reply for each dialogue; several, of which one is chosen, are a flow's stage with n and "
    "choose (docs/flows.md)",
    "best_of": "several candidates, of which one is chosen, are a flow's stage with n and choose (docs/flows.md)",
    "seed": "it is a setting of the run: --seed",
    "thinking_budget": "it is a setting of the run: --thinking-budget",
    "thinking_token_budget": "it is a setting of the run: --thinking-budget",
    "max_new_tokens": "it is called max_tokens",
    "max_completion_tokens": "it is called max_tokens",
    "repeat_penalty": "it is called repetition_penalty",
    "guided_choice": "it is called choice",
    "guided_regex": "it is called regex",
    "guided_grammar": "it is called grammar",
    "guided_json": "it is called json_schema",
    "json": "it is called json_schema",
    "response_format": "give the schema alone, as json_schema",
    "structured_outputs": "give choice, regex, grammar or json_schema by itself",
    "use_beam_search": "vLLM's engine has no beam search",
    "logprobs": "a run keeps no probabilities of tokens; `score --ppl` has those of the references",
    "prompt_logprobs": "a run keeps no probabilities of tokens; `score --ppl` has those of the references",
    "skip_special_tokens": "localemp sets it, since it reads the marks of thinking",
    "detokenize": "a reply is a text",
}
_IN_WORDS = {("choice", "too_short"): "one text leaves no choice: give two or more"}
_FORMS = ("choice", "regex", "grammar", "json_schema")
DRAWS = ("top_p", "top_k", "min_p")
"""What has an effect only at a temperature above 0."""


def _listed(value: Any) -> Any:
    """Take one text for a list of it, and a list for a tuple."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _by_number(value: Any) -> Any:
    """Return a table with numbers for keys; TOML and JSON have texts."""
    if not isinstance(value, Mapping):
        return value
    return {int(key) if isinstance(key, str) and key.isdecimal() else key: each for key, each in value.items()}


def _as_schema(value: Any) -> Any:
    """Take a JSON schema that is a text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError("it is not a JSON schema") from error
    return value


_Text = Annotated[str, Field(min_length=1, max_length=200)]
_Texts = Annotated[tuple[_Text, ...], Field(max_length=16), BeforeValidator(_listed)]
_Words = Annotated[tuple[_Text, ...], Field(max_length=1000), BeforeValidator(_listed)]
_Choice = Annotated[tuple[_Text, ...], Field(min_length=2, max_length=64), BeforeValidator(_listed)]
_Id = Annotated[int, Field(ge=0, lt=2**31)]
_Ids = Annotated[tuple[_Id, ...], Field(max_length=100_000), BeforeValidator(_listed)]
_Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
_Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
_Form = Annotated[str, Field(min_length=1, max_length=20_000)]


class DrawingSettings(BaseModel):
    """How tokens are drawn, and what ends a text. What is not set is None.

    Attributes:
        max_tokens: Longest reply, in tokens, without its thinking; by default 128.
        min_tokens: Shortest reply, in tokens; the end of a text is not drawn before.
        temperature: 0 takes the likeliest token each time, which is the default and the paper's setting; at most 2.
        top_p: Draw among the likeliest tokens that have this share of the probability together; 1 for all.
        top_k: Draw among this many of the likeliest tokens; 0 for all.
        min_p: Draw among tokens with at least this share of the likeliest one's probability; 0 for all.
        presence_penalty: What a token's logit loses once the reply has it, from -2 to 2.
        frequency_penalty: What a token's logit loses for each time that the reply has it, from -2 to 2.
        repetition_penalty: By what the logit of a token that prompt or reply already have is divided; 1 for nothing.
        stop: Texts that end the reply, which does not keep them.
        stop_token_ids: Ids of tokens that end the reply.
        include_stop_str_in_output: Whether the reply keeps the text of `stop` that ended it.
        ignore_eos: Whether the model's own end of a text is ignored, so that every reply has `max_tokens`.
        bad_words: Words that the reply cannot have.
        allowed_token_ids: Ids of the only tokens that can be drawn.
        logit_bias: What is added to the logits of tokens, by their ids: `{ "1234" = -100 }`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    max_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=2**31)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] | None = None
    stop: _Texts | None = None
    stop_token_ids: _Ids | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    bad_words: _Words | None = None
    allowed_token_ids: _Ids | None = None
    logit_bias: (
        Annotated[dict[_Id, _Bias], Field(min_length=1, max_length=1000), BeforeValidator(_by_number)] | None
    ) = None

    @property
    def changes(self) -> dict[str, Any]:
        """What is set, as fields of `Sampling`."""
        told = self.model_dump(exclude_none=True)
        if "logit_bias" in told:
            told["logit_bias"] = tuple(sorted(told["logit_bias"].items()))
        return told

    def over(self, sampling: Sampling) -> Sampling:
        """Return sampling parameters with what is set here."""
        return replace(sampling, **self.changes)


class SamplingSettings(DrawingSettings):
    """The sampling parameters of a profile or a run, which have vLLM's names and meaning.

    Attributes:
        choice: The only texts that the reply can be: `["yes", "no"]`.
        regex: A regular expression that the reply matches.
        grammar: A grammar that the reply is of, in EBNF.
        json_schema: A JSON schema that the reply, a JSON text, is of.
    """

    choice: _Choice | None = None
    regex: _Form | None = None
    grammar: _Form | None = None
    json_schema: Annotated[dict[str, Any], BeforeValidator(_as_schema), AfterValidator(_as_json)] | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any], where: str = "--sampling") -> Self:
        """Return settings that a user gave.

        Args:
            settings: By name.
            where: Where they were given, for errors.

        Raises:
            UnknownNameError: There is no such parameter; lists those that there are.
            OptionError: A value is invalid, two exclude each other, or it is to be given elsewhere.
        """
        for name in settings:
            if name in ELSEWHERE:
                raise OptionError(f"{where} {name}: it is not among the sampling parameters", ELSEWHERE[name])
            if name not in cls.model_fields:
                raise UnknownNameError("sampling parameter", str(name), cls.model_fields, all_in="docs/profiles.md")
        try:
            return cls.model_validate(dict(settings))
        except ValidationError as error:
            told = format_validation_error(error, _IN_WORDS)
            raise OptionError(f"{where} {told}", "docs/profiles.md lists the parameters") from error

    @property
    def changes(self) -> dict[str, Any]:
        """What is set, as fields of `Sampling`."""
        told = super().changes
        if "json_schema" in told:
            told["schema"] = json.dumps(told.pop("json_schema"))
        return told

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        forms = [name for name in _FORMS if getattr(self, name) is not None]
        if len(forms) > 1:
            raise ValueError(f"{forms[0]}: it excludes {forms[1]}; give one form of the reply")
        if forms and self.min_tokens:
            raise ValueError(f"min_tokens: it excludes {forms[0]}, which says how long the reply is")
        if self.max_tokens is not None and (self.min_tokens or 0) > self.max_tokens:
            raise ValueError(f"min_tokens: {self.min_tokens} are more than max_tokens, {self.max_tokens}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _is_elsewhere(cls, fields: Any) -> Any:
        for name in fields if isinstance(fields, Mapping) else ():
            if name in ELSEWHERE:
                raise ValueError(f"{name}: {ELSEWHERE[name]}")
        return fields
