"""What is known of single servers beyond OpenAI's API: their keys, and what they leave out or do otherwise.

Most differences need no entry: a parameter that is refused is dropped, and an error is read whatever its form (see
`failures.py`). Here is what a response does not tell. docs/servers.md explains each entry.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit

from localemp.dialogue import Message
from localemp.errors import OptionError

OPENAI_KEY = "OPENAI_API_KEY"
_OPENAI_KEYS = ("sk-proj-", "sk-svcacct-", "sk-admin-")  # the forms that only OpenAI gives out
_NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A service, or a program that serves models.

    Attributes:
        name: Its name in messages.
        hosts: Its host names; one that begins with a dot stands for every name that ends in it.
        port: The port on which it usually listens on this machine; None if others do, too.
        owner: What its list of models calls their owner, by which it is known at any address.
        keys: Environment variables that may hold its key, the first one that is set counts. No other server gets it.
        needs_key: Whether it answers nobody without a key.
        key_header: The header of the key, if it is not the usual one.
        start: How it is started, for a hint.
        widen: How it is given a longer context, for a hint.
        lists: What GET /models of it lists: what requests name, something else, or nothing to a client of this API.
        takes: The further sampling parameters (`Sampling.further`) that it takes; others are an error before anything
            is asked. None if that is not known: all are sent then, and a refusal is an error.
        left_out: Parameters that it ignores or counts wrongly, which are not sent, with the reason.
        renamed: Its own names of parameters, for chat; None for one that it does not have.
        fixed_while_reasoning: Parameters that are refused while a model reasons.
        assumed: Parameters that are not sent at this value, which is its own default.
        most_temperature: The highest temperature; it takes a higher one for this.
        charges: Whether the usage of a response says what it costs, in dollars.
        batch_prefix: What is before the paths of requests in its batches.
        cuts_prompts: Whether it answers a prompt that is too long after cutting it, without a word.
    """

    name: str
    hosts: tuple[str, ...] = ()
    port: int | None = None
    owner: str = ""
    keys: tuple[str, ...] = (OPENAI_KEY,)
    needs_key: bool = False
    key_header: str = ""
    start: str = ""
    widen: str = ""
    lists: Literal["models", "other", "nothing"] = "models"
    takes: frozenset[str] | None = None
    left_out: Mapping[str, str] = field(default_factory=lambda: _NONE)
    renamed: Mapping[str, str | None] = field(default_factory=lambda: _NONE)
    fixed_while_reasoning: tuple[str, ...] = ()
    assumed: Mapping[str, Any] = field(default_factory=lambda: _NONE)
    most_temperature: float | None = None
    charges: bool = False
    batch_prefix: str = "/v1"
    cuts_prompts: bool = False

    @property
    def lists_models(self) -> bool:
        """Whether GET /models lists what requests name."""
        return self.lists == "models"

    @property
    def key_variable(self) -> str:
        """The variable that a user is told to set."""
        return self.keys[0]


# What is refused is known beforehand, so that no request has to be refused first: a batch would be lost by it.
_TAKEN_BY_OPENAI = frozenset({"presence_penalty", "frequency_penalty", "logit_bias"})
OPENAI = Server(
    name="OpenAI",
    hosts=("api.openai.com", ".api.openai.com"),
    needs_key=True,
    takes=_TAKEN_BY_OPENAI,
    renamed={"max_tokens": "max_completion_tokens", "thinking_token_budget": None},
    fixed_while_reasoning=("temperature", "top_p", "logprobs", "top_logprobs"),
)
OTHER = Server(name="")
"""Any other server with the OpenAI API."""

_IGNORED = "Anthropic's endpoint ignores it"
_NOT_VLLM: Mapping[str, str | None] = {"thinking_token_budget": None}
_PENALTY: Mapping[str, str | None] = {"repetition_penalty": "repeat_penalty"}  # they ignore the other name


def _hosted(name: str, hosts: tuple[str, ...], *keys: str, **known: Any) -> Server:
    return Server(name=name, hosts=hosts, keys=keys, needs_key=True, renamed=_NOT_VLLM, **known)


_SERVERS = (
    OPENAI,
    _hosted(
        "Azure OpenAI",
        (".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com"),
        "AZURE_OPENAI_API_KEY",
        "AZURE_OPENAI_AD_TOKEN",
        key_header="api-key",
        lists="other",  # requests name deployments
        batch_prefix="",
        takes=_TAKEN_BY_OPENAI,
    ),
    _hosted("OpenRouter", ("openrouter.ai",), "OPENROUTER_API_KEY", charges=True),
    _hosted(
        "Anthropic",
        ("api.anthropic.com",),
        "ANTHROPIC_API_KEY",
        lists="nothing",
        takes=frozenset(),
        left_out=dict.fromkeys(("seed", "response_format", "logprobs", "top_logprobs"), _IGNORED)
        | {"n": "Anthropic's endpoint gives one answer"},
        assumed={"top_p": 1.0},  # some models refuse it beside a temperature, others always
        most_temperature=1.0,
    ),
    _hosted("Gemini", ("generativelanguage.googleapis.com",), "GEMINI_API_KEY", "GOOGLE_API_KEY"),
    _hosted("Cerebras", ("api.cerebras.ai",), "CEREBRAS_API_KEY"),
    _hosted("DeepSeek", ("api.deepseek.com",), "DEEPSEEK_API_KEY"),
    _hosted("Fireworks", ("api.fireworks.ai",), "FIREWORKS_API_KEY"),
    _hosted("Groq", ("api.groq.com",), "GROQ_API_KEY"),
    _hosted("Hugging Face", ("router.huggingface.co",), "HF_TOKEN"),
    _hosted("Mistral", ("api.mistral.ai",), "MISTRAL_API_KEY"),
    _hosted("NVIDIA", ("integrate.api.nvidia.com",), "NVIDIA_API_KEY"),
    _hosted("Together", ("api.together.xyz", "api.together.ai"), "TOGETHER_API_KEY"),
    _hosted("xAI", ("api.x.ai",), "XAI_API_KEY"),
    Server(
        name="Ollama",
        hosts=("ollama.com",),
        port=11434,
        owner="library",
        keys=("OLLAMA_API_KEY",),
        start="ollama serve",
        widen="OLLAMA_CONTEXT_LENGTH=16384 ollama serve",
        takes=frozenset({"presence_penalty", "frequency_penalty"}),
        left_out={"thinking_token_budget": "Ollama's endpoint ignores it"},
        cuts_prompts=True,
    ),
    Server(
        name="LM Studio",
        port=1234,
        owner="organization_owner",
        keys=("LM_API_TOKEN",),
        start="lms server start",
        widen="lms load MODEL --context-length 16384",
        takes=_TAKEN_BY_OPENAI | {"top_k", "repetition_penalty"},
        renamed=_PENALTY,
    ),
    Server(
        name="llama.cpp",
        owner="llamacpp",
        widen="llama-server -c 16384, which all --parallel slots share",
        takes=_TAKEN_BY_OPENAI | {"top_k", "min_p", "repetition_penalty", "ignore_eos"},
        renamed=_PENALTY,
        left_out={
            "n": "llama.cpp counts the tokens of one answer only",
            "thinking_token_budget": "llama.cpp limits thinking only at its start (--reasoning-budget)",
        },
    ),
)


def known_servers() -> Sequence[Server]:
    """Return the servers of which something is known."""
    return _SERVERS


def server_at(url: str) -> Server:
    """Return what is known of the server at a URL, by its host, or its port on this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    for server in _SERVERS:
        if any(host == known or (known[:1] == "." and host.endswith(known)) for known in server.hosts):
            return server
        if server.port is not None and parts.port == server.port and host in ("localhost", "127.0.0.1", "::1"):
            return server
    return OTHER


def server_of(owner: str) -> Server:
    """Return what is known of the server whose list of models names this owner."""
    return next((server for server in _SERVERS if owner and server.owner == owner), OTHER)


def key_variables() -> tuple[str, ...]:
    """Return the environment variables that can hold a key, each once."""
    return tuple(dict.fromkeys(variable for server in _SERVERS for variable in server.keys))


def key_for(server: Server, *, named: bool) -> tuple[str, str]:
    """Return the key for a server, and the environment variable that has it or should have it.

    A server's own variables are read for it alone. OPENAI_API_KEY is for OpenAI, for servers of which no key variable
    is known, and for any server that the user names. If its form says that it is a key of OpenAI's, it is sent to no
    other known server, and to an unknown one only if the user names it.

    Args:
        server: The server.
        named: Whether the user gave its address, rather than a model's profile.

    Raises:
        OptionError: The only key is one for OpenAI.
    """
    for variable in server.keys:
        key = os.environ.get(variable, "").strip()
        if key and (named or server is not OTHER or not key.startswith(_OPENAI_KEYS)):
            return key, variable
    instead = os.environ.get(OPENAI_KEY, "").strip()
    if not named or not instead:
        return "", server.key_variable
    if instead.startswith(_OPENAI_KEYS):
        if server.needs_key:
            raise OptionError(
                f"{server.key_variable} is not set, and the key in {OPENAI_KEY} is one for OpenAI: it is not sent to "
                f"{server.name}",
                f"export {server.key_variable}=...",
            )
        return "", server.key_variable
    return instead, OPENAI_KEY


def headers_of(server: Server, key: str) -> tuple[str, str]:
    """Return name and value of the header that carries a key; a token of Microsoft Entra ID is a bearer's."""
    if not server.key_header or key.startswith("eyJ"):
        return "authorization", f"Bearer {key}"
    return server.key_header, key


_MARKS = 16  # tokens that a chat template may add to a message


def may_be_cut(prompt_tokens: int, context_length: int, messages: Sequence[Message]) -> bool:
    """Return whether a server that cuts prompts may have cut this one, by the length that it reports afterwards.

    Ollama drops the oldest messages, until the prompt fits: then it is shorter than the context by less than one of
    those. System messages and the last message stay; if these alone are too long, it keeps the context's length in
    older versions, and half of it plus a few tokens in newer ones.

    Args:
        prompt_tokens: The length that the server reports.
        context_length: The length of its context.
        messages: What was sent.
    """
    dropped = (_most_tokens(message) for message in messages[:-1] if message.role != "system")
    half = context_length // 2
    return prompt_tokens > context_length - max(dropped, default=1) or half <= prompt_tokens <= half + _MARKS


def _most_tokens(message: Message) -> int:
    return len(message.content.encode()) // 2 + _MARKS
