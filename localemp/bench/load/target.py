"""The models that `bench serve` measures; problems are found before any load."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from localemp.bench.load.client import api_url, chat_messages
from localemp.dialogue import Message
from localemp.engines.openai.engine import OpenAIEngine
from localemp.engines.openai.servers import OPENAI_KEY, server_at
from localemp.errors import EngineError, FatalEngineError
from localemp.models.profiles import served_profile
from localemp.sampling import Sampling
from localemp.strategies.registry import parts


@dataclass(frozen=True, slots=True)
class LoadTarget:
    """A model of a server, with the fields of its requests.

    Attributes:
        url: The server's URL.
        model: The model's name on the server.
        label: Its name in the result.
        settings: All fields of a request except the messages.
        key: The API key.
    """

    url: str
    model: str
    label: str
    settings: Mapping[str, Any]
    key: str = field(default="", repr=False)

    @property
    def counts_unseen(self) -> bool:
        """Whether the usage includes tokens that are not streamed: those of the stages before a flow's last."""
        known = parts()
        return any(known[name].place == "flow" for name in self.model.partition(":")[2].split("+") if name in known)

    def body(self, turns: Sequence[str]) -> dict[str, Any]:
        """Return the body of a request."""
        return {"messages": chat_messages(turns), **self.settings}


async def find_target(
    url: str,
    key: str,
    model: str,
    label: str = "",
    *,
    reply_tokens: int,
    fixed_length: bool,
    patience: float = 60,
    variable: str = OPENAI_KEY,
) -> LoadTarget:
    """Ask a server for its models and for one reply.

    Args:
        url: The server's URL.
        key: The API key; empty if it needs none.
        model: The model's name on the server, or localemp's name of a hosted model.
        label: Its name in the result; the same by default.
        reply_tokens: The longest reply.
        fixed_length: Whether every reply is to have that length, by vLLM's field `ignore_eos`.
        patience: Seconds for each of the two requests.
        variable: The environment variable of the key.

    Raises:
        EngineError: The server does not answer, or refuses the key, the model or the request.
    """
    profile = served_profile(model)
    extra, served = dict(profile.request), profile.model or model
    extra |= {"ignore_eos": True} if fixed_length else {}
    address = api_url(url)
    engine = OpenAIEngine(served, address, api_key=key, max_retries=0, timeout=patience, extra_body=extra)
    try:
        await engine.start()
        await engine.chat([Message("user", "Hello!")], Sampling(max_tokens=reply_tokens))
        changed = engine.describe()["changed_parameters"]
    except EngineError as error:
        # The words of an engine's options and key are not those of `bench serve`.
        theirs = server_at(address).key_variable
        message, hint = (text.replace(theirs, variable) for text in (error.message, error.hint))
        if not key:
            message = message.replace(f"rejects the key in {variable}", f"requires a key, and {variable} is not set")
        if address != url.rstrip("/"):
            hint = hint.replace(": it usually ends in /v1", "")  # which was added here
        hint = hint.replace("--base-url", "--url").replace("--max-tokens", "--reply-tokens")
        hint = "" if "--concurrency" in hint else hint  # this was one request alone
        hint = "leave out --fixed-length: only servers of vLLM's kind know it" if "ignore_eos" in message else hint
        raise FatalEngineError(message, hint) from error
    finally:
        await engine.close()
    wanted = {"max_tokens": reply_tokens, "temperature": 0.0}
    fields = {changed.get(name, name): value for name, value in wanted.items() if changed.get(name, name)}
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    return LoadTarget(url, served, label or model, {"model": served, **fields, **streamed, **extra}, key)
