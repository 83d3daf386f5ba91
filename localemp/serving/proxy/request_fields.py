"""What of a request's body reaches a server that is asked with our own key: what has the served model read and write.

Anything else could choose another model or another server, cost more, or reach what the key's owner keeps there. So the
fields are listed, as OpenAI lists its own: one that is not here is refused by name, unless there is nothing in it.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from localemp.serving.routes import CHAT
from localemp.serving.schema import RequestError
from localemp.utils.text import one_line

_ALWAYS = "model stream stream_options temperature top_p user"
# Of open servers (vLLM, SGLang, llama.cpp, TGI): how tokens are drawn, and how the prompt and the reply are written.
_OPEN = (
    "top_k top_a min_p typical_p tfs_z epsilon_cutoff eta_cutoff repetition_penalty repetition_detection "
    "no_repeat_ngram_size length_penalty dry_multiplier dry_base dry_allowed_length dry_sequence_breakers "
    "xtc_threshold xtc_probability mirostat mirostat_tau mirostat_eta dynatemp_range dynatemp_exponent "
    "min_tokens ignore_eos stop_token_ids include_stop_str_in_output skip_special_tokens "
    "spaces_between_special_tokens bad_words allowed_token_ids prompt_logprobs truncate_prompt_tokens "
    "add_special_tokens return_tokens_as_token_ids return_token_ids use_beam_search early_stopping "
    "structured_outputs guided_json guided_regex guided_choice guided_grammar guided_whitespace_pattern json_schema "
    "grammar regex ebnf cache_prompt cache_salt"
)
_DRAWN = "frequency_penalty presence_penalty logit_bias logprobs n seed stop max_tokens best_of"
_CHAT = (
    "messages max_completion_tokens top_logprobs response_format tools tool_choice parallel_tool_calls functions "
    "function_call reasoning reasoning_effort include_reasoning separate_reasoning thinking enable_thinking "
    "thinking_budget thinking_token_budget verbosity modalities audio prediction prompt_cache_key "
    "metadata safety_identifier chat_template_kwargs add_generation_prompt continue_final_message documents echo"
)
_RESPONSES = (
    "input instructions include metadata max_output_tokens max_tool_calls parallel_tool_calls prompt_cache_key "
    "reasoning safety_identifier text tool_choice tools top_logprobs truncation"
)
_MESSAGES = "messages metadata system max_tokens stop_sequences thinking tools tool_choice top_k chat_template_kwargs"

FIELDS: Mapping[str, frozenset[str]] = {
    path: frozenset(f"{_ALWAYS} {names}".split())
    for path, names in (
        (CHAT, f"{_DRAWN} {_CHAT} {_OPEN}"),
        ("/v1/completions", f"prompt suffix echo {_DRAWN} {_OPEN}"),
        ("/v1/responses", f"{_RESPONSES} {_OPEN}"),
        ("/v1/messages", _MESSAGES),
        ("/v1/embeddings", "input encoding_format dimensions truncate_prompt_tokens add_special_tokens"),
    )
}
"""By path. A profile's own `[request]` fields are taken beside them."""

# What some clients always send, and what says nothing.
_SAYS_NOTHING: Mapping[str, tuple[Any, ...]] = {"service_tier": ("auto", "default")}

# Where what the model reads stands. Elsewhere, in a tool's schema, a name means nothing.
_SAID = ("messages", "input", "instructions", "system", "prompt")

# What the client carries out itself; all others have the server search, run code or call a fourth party.
_OWN_TOOLS = (None, "function", "custom")
# How a tool is chosen among those that are named, in Anthropic's words and OpenAI's.
_CHOICES = (*_OWN_TOOLS, "auto", "any", "tool", "none", "required", "allowed_tools")


def passed_on(path: str, content: Mapping[str, Any], more: Collection[str] = ()) -> dict[str, Any]:
    """What of a body is passed on; what is left out says nothing.

    Args:
        path: The route.
        content: The body.
        more: Further fields, which the model's profile names.

    Raises:
        RequestError: It holds something that is not passed on; says what.
    """
    taken = FIELDS[path].union(more)
    for name, value in content.items():
        if name not in taken and not _is_nothing(value) and value not in _SAYS_NOTHING.get(name, ()):
            raise _refusal(name, repr(one_line(name)))
    for field, known in (("tools", _OWN_TOOLS), ("tool_choice", _CHOICES)):
        if any(tool.get("type") not in known for tool in _tools(content.get(field))):
            raise _refusal(field, "a tool that the server itself would run")
    for field in _SAID:
        if any(map(_is_kept, _all_objects(content.get(field)))):
            raise _refusal(field, "what is kept at the server, named by id,")
    return {name: value for name, value in content.items() if name in taken}


def _refusal(name: str, what: str) -> RequestError:
    said = f"{what} is not passed on: this server asks with a key of its own, for its one model alone"
    return RequestError(said, one_line(name), "unsupported_parameter")


def _tools(value: Any) -> Iterator[dict[str, Any]]:
    """The tools that are named, one or in lists; what is inside a tool is its own."""
    if isinstance(value, dict):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _tools(each)


def _all_objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object inside a value, however deep; without recursion."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _is_kept(part: Mapping[str, Any]) -> bool:
    """Whether a message, or something inside one, stands for what is in the account: a file, an earlier answer."""
    audio = part.get("audio")
    return (
        part.get("type") == "item_reference"
        or any(not _is_nothing(part.get(name)) for name in ("file_id", "container_id", "previous_response_id"))
        or (isinstance(audio, dict) and "id" in audio)
    )


def _is_nothing(value: Any) -> bool:
    """Whether a value says nothing; 0 is a number."""
    return value is None or value is False or value in ("", [], {})
