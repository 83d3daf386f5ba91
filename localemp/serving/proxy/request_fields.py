"""The allowlist of body fields for an upstream that is asked with the operator's key.

The fields here only say what the served model reads and how it writes. Any other could choose another model or server,
cost more, or reach what the key's owner stores there: it is rejected by name, unless it is empty.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from localemp.serving.errors import RequestError
from localemp.serving.settings import CHAT
from localemp.utils.text import one_line

_COMMON = "model stream stream_options temperature top_p user"
# Sampling, prompt and output options of open servers (vLLM, SGLang, llama.cpp, TGI).
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
_SAMPLING = "frequency_penalty presence_penalty logit_bias logprobs n seed stop max_tokens best_of"
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

ALLOWED_FIELDS: Mapping[str, frozenset[str]] = {
    path: frozenset(f"{_COMMON} {names}".split())
    for path, names in (
        (CHAT, f"{_SAMPLING} {_CHAT} {_OPEN}"),
        ("/v1/completions", f"prompt suffix echo {_SAMPLING} {_OPEN}"),
        ("/v1/responses", f"{_RESPONSES} {_OPEN}"),
        ("/v1/messages", _MESSAGES),
        ("/v1/embeddings", "input encoding_format dimensions truncate_prompt_tokens add_special_tokens"),
    )
}
"""The allowed fields by path. A profile's own `[request]` fields are allowed as well."""

# Values that some clients always send, and that change nothing.
_NO_EFFECT: Mapping[str, tuple[Any, ...]] = {"service_tier": ("auto", "default")}

# Fields that the model reads. Elsewhere, in a tool's schema, a key may have any name.
_MODEL_INPUT = ("messages", "input", "instructions", "system", "prompt")

# Tools that the client runs; all others make the server search, run code or call another party.
_CLIENT_TOOLS = (None, "function", "custom")
# Ways to choose among the given tools, Anthropic's and OpenAI's.
_CHOICES = (*_CLIENT_TOOLS, "auto", "any", "tool", "none", "required", "allowed_tools")


def allowed_fields(path: str, content: Mapping[str, Any], more: Collection[str] = ()) -> dict[str, Any]:
    """Return the fields of a body to pass on; those left out have no effect.

    Args:
        path: The route's path.
        content: The body.
        more: Further allowed fields, from the model's profile.

    Raises:
        RequestError: The body holds something that is not allowed; the message says what.
    """
    allowed = ALLOWED_FIELDS[path].union(more)
    for name, value in content.items():
        if name not in allowed and not _is_empty(value) and value not in _NO_EFFECT.get(name, ()):
            raise _not_allowed(name, repr(one_line(name)))
    for field, known in (("tools", _CLIENT_TOOLS), ("tool_choice", _CHOICES)):
        if any(tool.get("type") not in known for tool in _tools(content.get(field))):
            raise _not_allowed(field, "a tool that the server would run")
    for field in _MODEL_INPUT:
        if any(map(_is_stored, _all_objects(content.get(field)))):
            raise _not_allowed(field, "a reference to something stored at the server")
    return {name: value for name, value in content.items() if name in allowed}


def _not_allowed(name: str, what: str) -> RequestError:
    message = f"{what} is not allowed: this server uses its operator's key, for its one model only"
    return RequestError(message, one_line(name), "unsupported_parameter")


def _tools(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the tools in a value, one or in lists; not what is inside a tool."""
    if isinstance(value, dict):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _tools(each)


def _all_objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object inside a value, however deep, without recursion."""
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def _is_stored(part: Mapping[str, Any]) -> bool:
    """Whether an object refers to something in the key owner's account: a file, an earlier response."""
    audio = part.get("audio")
    return (
        part.get("type") == "item_reference"
        or any(not _is_empty(part.get(name)) for name in ("file_id", "container_id", "previous_response_id"))
        or (isinstance(audio, dict) and "id" in audio)
    )


def _is_empty(value: Any) -> bool:
    """Whether a value is empty; 0 is not."""
    return value is None or value is False or value in ("", [], {})
