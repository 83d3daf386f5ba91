"""Messages to token ids, exactly as the local engine will see them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoTokenizer

from localemp.dialogue import Message
from localemp.errors import EngineError, WeightsError
from localemp.models.data_only import read_settings
from localemp.utils.text import one_line

_LONGEST_CONTEXT = 10**9  # tokens; configurations that know none write larger numbers


class PromptTokenizer:
    """A model's tokenizer and chat template.

    Args:
        folder: Where tokenizer and configuration lie.
        template_options: What the chat template takes besides messages (Qwen3: `enable_thinking`).

    Raises:
        WeightsError: The folder holds no usable tokenizer.
    """

    def __init__(self, folder: Path, template_options: Mapping[str, Any] | None = None) -> None:
        self.folder, self.template_options = folder, dict(template_options or {})
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except StrictDataclassError as error:  # its first line names the field, its second what is wrong
            said = " ".join(line.strip() for line in str(error).splitlines()[:2])
            raise WeightsError(f"{folder / 'config.json'}: {said}", "mend the configuration") from error
        except Exception as error:  # broken files end in whatever the library happens to do with them
            said = next(iter(str(error).splitlines()), type(error).__name__)
            raise WeightsError(f"{folder}: no usable tokenizer: {said}") from error

    @property
    def has_chat_template(self) -> bool:
        """Whether the model was trained on chats; if not, it continues text."""
        return bool(self.tokenizer.chat_template)

    def takes_system_role(self) -> bool:
        """Whether the chat template shows a system message, found out by trying."""
        probe = [Message("system", "localemp-probe"), Message("user", "hello")]
        try:
            return self.has_chat_template and "localemp-probe" in self.render(probe)
        except EngineError:
            return False

    @property
    def special_tokens(self) -> list[str]:
        """What decoding leaves out of a text."""
        return list(self.tokenizer.all_special_tokens)

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the prompt; raises as `render` does."""
        return self.ids(self.render(messages))

    def ids(self, prompt: str) -> list[int]:
        """Token ids of a rendered prompt."""
        # A chat template writes special tokens itself.
        return list(self.tokenizer(prompt, add_special_tokens=not self.has_chat_template)["input_ids"])

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt as text: through the chat template, or as plain text where there is none.

        Raises:
            EngineError: The template refuses these messages.
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
        except Exception as error:  # templates raise whatever their Jinja code raises
            raise EngineError(
                f"the model's chat template refuses the dialogue: {type(error).__name__}: {one_line(str(error))}",
                "--layout transcript sends it as one message",
            ) from error


def context_length(folder: Path) -> int:
    """The longest context that the model's configuration allows, in tokens.

    Raises:
        WeightsError: There is no configuration, or it does not say.
    """
    path = folder / "config.json"
    config = read_settings(path)
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        for key in ("max_position_embeddings", "n_positions", "seq_length"):
            if type(part.get(key)) is int and 0 < part[key] <= _LONGEST_CONTEXT:
                return int(part[key])
    raise WeightsError(f"{path}: it does not say how long a context may be", "write a profile with context_length")
