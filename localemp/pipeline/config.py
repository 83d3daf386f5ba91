"""What a person can ask for, in one place: the settings of a run, before anything is loaded."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, TypedDict

from localemp.commonsense.selection import Keep
from localemp.data.readers import Instances
from localemp.errors import OptionError, UnknownNameError
from localemp.prompting.render import Layout

EncoderDtype = Literal["auto", "bfloat16", "float32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What a person asked for. The command line's options have the same names.

    Attributes:
        model: A name, a Hugging Face id, a folder of weights, or a path to a profile.
        strategy: Names of `PARTS` joined by "+".
        variant: Prompt texts: "paper", "released", or a path.
        layout: "chat" or "transcript"; None leaves it to the model's profile.
        shots: Exemplars for few-shot and similar.
        shot_indices: Rows of the pool for few-shot, in place of a sample.
        seed: Of the few-shot sample, and of sampling at temperatures above 0.
        given: two-stage: "emotion" and "situation", taken from the data in place of the inferred ones.
        list_labels: two-stage: whether the question lists the 32 emotions; None leaves it to the variant.
        data: Where dialogues come from, see `localemp.data.sources`; also decides the default pool.
        pool: Where exemplars come from.
        instances: How EmpatheticDialogues becomes dialogues.
        knowledge: A file of inferences made beforehand.
        comet: A COMET, named like a model; None is comet-mini, or no COMET where a file of inferences is given.
        select: Which inferences go into the prompt, "relevant" or "all"; None leaves it to the variant.
        encoder: The sentence encoder of similar, named like a model.
        encoder_dtype: "auto", "bfloat16" or "float32".
        keep_thinking: Whether replies begin with what the model thought, between <think> and </think>.
        max_tokens, temperature, top_p: Of replies; None leaves them to the model's profile.
        base_url: An OpenAI-compatible server to ask in place of vLLM in this process.
        concurrency: Dialogues in flight at once; None leaves it to the engine.
        engine_args: vLLM's engine arguments.
        script: A file for the scripted engine: tests and dry runs.
    """

    model: str = "smollm2"
    strategy: str = "zero-shot"
    variant: str = "paper"
    layout: Layout | None = None
    shots: int = 5
    shot_indices: tuple[int, ...] = ()
    seed: int = 0
    given: tuple[str, ...] = ()
    list_labels: bool | None = None
    data: str = "samples"
    pool: str | None = None
    instances: Instances = "clean"
    knowledge: Path | None = None
    comet: str | None = None
    select: Keep | None = None
    encoder: str = "all-mpnet-base-v2"
    encoder_dtype: EncoderDtype = "auto"
    keep_thinking: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    base_url: str | None = None
    concurrency: int | None = None
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    script: Path | None = None

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p"):
            if not math.isfinite(getattr(self, name) or 0):
                raise OptionError(f"--{name.replace('_', '-')} {getattr(self, name)} is not a number to sample with")
        if self.base_url is not None and not self.base_url.strip():
            raise OptionError("--base-url is empty", "name a server like http://localhost:8000/v1, or leave it out")

    @classmethod
    def of(cls, settings: "RunSettings", config: Self | None = None) -> Self:
        """The config that is given, or the one with these settings: callers may say either.

        Raises:
            OptionError: Both are given, or a value cannot be used.
            UnknownNameError: There is no such setting; the known ones are listed.
        """
        if config is not None:
            if settings:
                raise OptionError(f"a config is given, and {', '.join(settings)} too", "give one of them")
            return config
        known = [field.name for field in fields(cls)]
        if strange := [name for name in settings if name not in known]:
            raise UnknownNameError("setting", strange[0], known)
        return cls(**settings)


class RunSettings(TypedDict, total=False):
    """The fields of `RunConfig` as keyword arguments, see there."""

    model: str
    strategy: str
    variant: str
    layout: Layout | None
    shots: int
    shot_indices: tuple[int, ...]
    seed: int
    given: tuple[str, ...]
    list_labels: bool | None
    data: str
    pool: str | None
    instances: Instances
    knowledge: Path | None
    comet: str | None
    select: Keep | None
    encoder: str
    encoder_dtype: EncoderDtype
    keep_thinking: bool
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    base_url: str | None
    concurrency: int | None
    engine_args: Mapping[str, Any]
    script: Path | None
