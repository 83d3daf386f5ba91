"""Turns messages into token ids, exactly as the local engine sees them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from localemp.dialogue import Message
from localemp.errors import EngineError, WeightsError
from localemp.models.data_only import read_settings
from localemp.utils.plain_errors import in_words
from localemp.utils.text import one_line

_LONGEST_CONTEXT = 10**9  # tokens; configurations without a limit write larger numbers


class PromptTokenizer:
    """A model's tokenizer and chat template.

    Args:
        folder: The folder with tokenizer and configuration.
        template_options: Further arguments of the chat template (Qwen3: `enable_thinking`).

    Raises:
        WeightsError: The folder has no usable tokenizer.
    """

    def __init__(self, folder: Path, template_options: Mapping[str, Any] | None = None) -> None:
        # Imported here, because it takes seconds: `context_length` and type checks need no tokenizer.
        from huggingface_hub.errors import StrictDataclassError
        from transformers import AutoTokenizer

        self.folder, self.template_options = folder, dict(template_options or {})
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except StrictDataclassError as error:  # the first line names the field, the second the problem
            said = " ".join(line.strip() for line in str(error).splitlines()[:2])
            raise WeightsError(
                f"{folder / 'config.json'}: {said}", "fix the configuration, or fetch the weights again"
            ) from error
        except Exception as error:  # broken files raise anything
            said = in_words(error)
            raise WeightsError(f"{folder}: no usable tokenizer: {said}") from error

    @property
    def has_chat_template(self) -> bool:
        """Whether the tokenizer has a chat template; without one, the model continues plain text."""
        return bool(self.tokenizer.chat_template)

    def takes_system_role(self) -> bool:
        """Return whether the chat template renders system messages, by trying one."""
        probe = [Message("system", "localemp-probe"), Message("user", "hello")]
        try:
            return self.has_chat_template and "localemp-probe" in self.render(probe)
        except EngineError:
            return False

    @property
    def special_tokens(self) -> list[str]:
        """The special tokens, which decoding leaves out."""
        added = self.tokenizer.added_tokens_decoder.values()
        return sorted({*self.tokenizer.all_special_tokens, *(str(token) for token in added if token.special)})

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of the rendered messages. Raises what `render` raises."""
        return self.ids(self.render(messages))

    def ids(self, prompt: str) -> list[int]:
        """Return the token ids of a rendered prompt."""
        # Chat templates write the special tokens themselves.
        return list(self.tokenizer(prompt, add_special_tokens=not self.has_chat_template)["input_ids"])

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        """Return the text of token ids.

        Args:
            ids: The token ids.
            keep_special: Whether special tokens are part of the text.
        """
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=not keep_special))

    def answer_ids(self, prompt: str, text: str) -> list[int]:
        """Return the token ids of a text as the model writes it behind a rendered prompt, without the end of its turn.

        The answer's tokens begin where the prompt's end: no token spans both, since the model never had that choice.
        Without a chat template the model goes on in the same text, so that a word behind a word begins with a space.
        """
        apart = self.has_chat_template or not prompt or prompt[-1].isspace()
        return self.plain_ids(text if apart else f" {text}")

    def describe(self) -> dict[str, Any]:
        """Return what the number of tokens of a text and the form of a prompt depend on.

        The first hash is that of the vocabulary, tokens with their numbers; that of the template is None if there is
        none. Two tokenizers with one vocabulary of a real model are the same in practice.
        """
        vocabulary = json.dumps(sorted(self.tokenizer.get_vocab().items()), ensure_ascii=False)
        template = self.tokenizer.chat_template
        told = template if template is None or isinstance(template, str) else json.dumps(template, sort_keys=True)
        return {
            "tokenizer": type(self.tokenizer).__name__,
            "tokenizer_sha256": _sha256(vocabulary),
            "template_sha256": None if told is None else _sha256(told),
        }

    def single_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the ids of those texts that are one token each."""
        return [found[0] for text in texts if len(found := self.plain_ids(text)) == 1]

    def spellings(self, prompt: str, choices: Sequence[str]) -> dict[str, set[tuple[int, ...]]]:
        """Return for each choice the token ids that write it after a prompt.

        Besides the choice as it is, that is the same in another case or after a space, if it is one token and no other
        choice is written so.

        Raises:
            EngineError: Two choices have the same tokens.
        """
        before = self.ids(prompt)
        found: dict[str, set[tuple[int, ...]]] = {}
        for choice in choices:
            together = self.ids(prompt + choice)
            after = together[len(before) :] if together[: len(before)] == before else self.plain_ids(choice)
            found[choice] = {tuple(after)}
        written = {tokens for each in found.values() for tokens in each}
        if len(written) < len(found) or () in written:
            raise EngineError(f"the model's tokenizer does not tell the choices apart: {', '.join(choices)}")
        taken = {tokens[0] for tokens in written}
        for choice in choices:
            cases = dict.fromkeys((choice, choice.lower(), choice.upper(), choice.capitalize()))
            for token in self.single_tokens([space + each for each in cases for space in ("", " ")]):
                if token not in taken:
                    taken.add(token)
                    found[choice].add((token,))
        return found

    def plain_ids(self, text: str) -> list[int]:
        """Return the tokens of a text alone, without special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without special tokens."""
        return [len(ids) for ids in self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]] if texts else []

    def render(self, messages: Sequence[Message]) -> str:
        """Return the prompt as text: the chat template's, or the plain contents if there is no template.

        Raises:
            EngineError: The chat template rejects the messages.
        """
        if not self.has_chat_template:
            return "\n\n".join(message.content for message in messages)
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=True, **self.template_options
                )
            )
        except Exception as error:  # a template's Jinja code can raise anything
            raise EngineError(
                f"the model's chat template rejects the dialogue: {type(error).__name__}: {one_line(str(error))}",
                "use --layout transcript, which sends the dialogue as one message",
            ) from error


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def context_length(folder: Path) -> int:
    """Return the longest context that the model's configuration allows, in tokens.

    Raises:
        WeightsError: The configuration is missing or gives no context length.
    """
    path = folder / "config.json"
    config = read_settings(path)
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        for key in ("max_position_embeddings", "n_positions", "seq_length"):
            if type(part.get(key)) is int and 0 < part[key] <= _LONGEST_CONTEXT:
                return int(part[key])
    raise WeightsError(f"{path}: no context length found", "write a profile with context_length")
