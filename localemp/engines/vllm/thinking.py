"""Separates thinking from the answer of a model that vLLM runs here.

Uses vLLM's own parser if `reasoning_parser` names one, else the marks that models are known to write. In some
tokenizers these marks are special tokens, which vLLM removes from texts by default.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from localemp.errors import UnknownNameError
from localemp.protocol.thinking import MARKS, Split, ThinkingSplitter, opens_thinking, split_thinking

if TYPE_CHECKING:
    from localemp.engines.tokens import PromptTokenizer

_SOUGHT = 32  # characters of an answer by which its beginning is found


class ThoughtParser:
    """Splits one model's texts into thinking and answer.

    Args:
        tokenizer: The model's tokenizer.
        options: vLLM's engine arguments.

    Attributes:
        keep_marks: Whether vLLM must keep special tokens in texts.

    Raises:
        UnknownNameError: vLLM does not have the parser.
    """

    def __init__(self, tokenizer: "PromptTokenizer", options: Mapping[str, Any]) -> None:
        self._tokenizer = tokenizer
        self._special = sorted(tokenizer.special_tokens, key=len, reverse=True)
        self._own = _own_marks(options.get("reasoning_config"))
        self.keep_marks = any(token.lower() in MARKS or token in self._own for token in self._special)
        self._parser: Any = None
        if name := options.get("reasoning_parser"):
            self._take_parser(str(name), options.get("reasoning_parser_plugin"), tokenizer)

    def _take_parser(self, name: str, plugin: str | None, tokenizer: "PromptTokenizer") -> None:
        from localemp.engines.vllm.names import ChatCompletionRequest, ReasoningParserManager

        if plugin:
            ReasoningParserManager.import_reasoning_parser(plugin)
        if name not in (known := ReasoningParserManager.list_registered()):
            raise UnknownNameError("reasoning parser", name, known)
        kind = ReasoningParserManager.get_reasoning_parser(name)
        self._parser = kind(tokenizer.tokenizer, chat_template_kwargs=tokenizer.template_options)
        self._request = self._parser.adjust_request(ChatCompletionRequest(messages=[], model=name))
        self.keep_marks = self.keep_marks or not self._request.skip_special_tokens

    def ends_before_answer(self, prompt: str) -> bool:
        """Return whether vLLM applies a schema to the answer alone: its parser finds the end of a thought, if any."""
        return self._parser is not None or not opens_thinking(self._usual(prompt))

    def split(self, text: str, prompt: str) -> Split:
        """Return the answer and the thinking in a text that the model wrote after `prompt`."""
        if self._parser is not None:
            try:
                thinking, answer = self._parser.extract_reasoning(text, self._request)
                return Split(self._plain(answer or "").lstrip(), self._plain(thinking or "").strip())
            except Exception:  # some parsers only read token streams; all are third-party code
                pass
        answer, thinking = split_thinking(self._usual(text), opens_thinking(self._usual(prompt)))
        return Split(self._plain(answer), self._plain(thinking))

    def splitter(self, prompt: str) -> ThinkingSplitter | None:
        """Return what splits a text that arrives in pieces; None if only the whole text can be split."""
        if self._parser is not None or self._own or self.keep_marks:
            return None
        return ThinkingSplitter(opens_thinking(prompt))

    def count(self, ids: Sequence[int], split: Split) -> int | None:
        """Return how many of a completion's tokens come before its answer, marks included.

        Args:
            ids: All tokens of the completion.
            split: Its text, as `split` returned it.

        Returns:
            0 without thinking; None if the answer is not found in the text of the tokens.
        """
        if not split.thinking:
            return 0
        if not (beginning := split.text.strip()[:_SOUGHT]):
            return len(ids)
        whole = self._said(ids)
        thought = whole.find(split.thinking)
        start = whole.find(beginning, thought + len(split.thinking) if thought >= 0 else 0)
        if start < 0:
            return None
        # The first token whose text reaches the answer is the answer's.
        return bisect_right(range(len(ids) + 1), start, key=lambda end: len(self._said(ids[:end]))) - 1

    def split_ids(self, ids: Sequence[int], prompt: str) -> Split:
        """Do the same with the tokens of a text."""
        return self.split(self._decode(ids), prompt)

    def _said(self, ids: Sequence[int]) -> str:
        """Return the text of tokens as `split` leaves it: an answer may have special tokens, too."""
        return self._plain(self._decode(ids))

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids, keep_special=self.keep_marks)

    def _usual(self, text: str) -> str:
        """Write the model's own marks as ones that are known."""
        for own, usual in self._own.items():
            text = text.replace(own, usual)
        return text

    def _plain(self, text: str) -> str:
        """Remove the special tokens that were kept for the marks."""
        for token in self._special if self.keep_marks else ():
            text = text.replace(token, "")
        return text


def _own_marks(config: Any) -> dict[str, str]:
    """Return the marks that vLLM's `reasoning_config` names, and the ones that they stand for."""
    if not isinstance(config, Mapping):
        return {}
    named = {"reasoning_start_str": "<think>", "reasoning_end_str": "</think>"}
    return {str(config[name]): usual for name, usual in named.items() if config.get(name)}
