"""Speeds up transformers' beam search without changing the search.

Equal computations are done once: the keys and values of an encoded text, for all beams and decoder prompts, and the
first steps, in which the beams of a query are still equal. Results are those of a plain `generate`, except for rounding
from another order of float32 sums.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    DynamicCache,
    EncoderDecoderCache,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import BaseModelOutput

ATTENTION = "sdpa-shared"


class Texts:
    """A batch of encoded texts that can be decoded any number of times.

    Args:
        model: An encoder-decoder model with the attention `ATTENTION`.
        texts: The tokens of each text.
        padding: The padding token.
    """

    def __init__(self, model: PreTrainedModel, texts: Sequence[Sequence[int]], padding: int) -> None:
        self._model = model
        # Padded on the right: BART has absolute positions, so padding on the left would shift the text.
        ids = pad_sequence([torch.tensor(text) for text in texts], True, padding).to(model.device)
        lengths = torch.tensor([len(text) for text in texts], device=model.device)
        self._mask = (torch.arange(ids.shape[1], device=model.device) < lengths[:, None]).long()
        self._encoded = model.get_encoder()(input_ids=ids, attention_mask=self._mask).last_hidden_state
        self._cross_attention = DynamicCache(config=model.config)

    def generate(self, beams: int, prompt: Sequence[int] = (), **options: Any) -> Any:
        """Run transformers' `generate` on all texts with one decoder prompt.

        Args:
            beams: Width of the beam search.
            prompt: Beginning of the decoder's output; empty to let the model decide.
            **options: Further arguments of `generate`.
        """
        cache = _SharedCache(DynamicCache(config=self._model.config), self._cross_attention)
        if prompt:
            options["decoder_input_ids"] = torch.tensor([list(prompt)] * len(self._mask), device=self._mask.device)
        if beams > 1:
            options["stopping_criteria"] = StoppingCriteriaList([_ForgetScores()])
        with _once_while_equal(self._model, self._encoded, self._mask, beams):
            return self._model.generate(
                encoder_outputs=BaseModelOutput(last_hidden_state=self._encoded),
                attention_mask=self._mask,
                past_key_values=cache,
                use_cache=True,
                num_beams=beams,
                do_sample=False,
                return_dict_in_generate=True,
                output_scores=True,
                **options,
            )


class _SharedCache(EncoderDecoderCache):  # type: ignore[misc] # transformers is not followed
    """Keys and values of the decoder; those of the encoder are stored once per text, not per beam."""

    @property
    def rows(self) -> int:
        """Number of rows in the decoder's last step; 0 before the first."""
        layers = self.self_attention_cache.layers
        return layers[0].keys.shape[0] if layers and layers[0].is_initialized else 0

    def widen(self, beams: int) -> None:
        """Expand from one row per text to one row per beam."""
        self.self_attention_cache.batch_repeat_interleave(beams)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        # Beams stay with their text, and beams that share a row are equal.
        if self.rows == len(beam_idx):
            self.self_attention_cache.reorder_cache(beam_idx)


class _ForgetScores(StoppingCriteria):  # type: ignore[misc]
    """Never stops; frees each step's scores of the whole vocabulary, which `generate` keeps to report beam scores."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        scores[-1].set_()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@contextmanager
def _once_while_equal(model: PreTrainedModel, encoded: torch.Tensor, mask: torch.Tensor, beams: int) -> Iterator[None]:
    """Run the decoder on one row per text while its beams are equal.

    They are equal in the first step, and also in the second if the checkpoint forces the first token.
    """

    def narrow(_: Any, args: Any, given: dict[str, Any]) -> Any:
        cache, ids = given["past_key_values"], given["decoder_input_ids"]
        if cache.rows not in (0, len(mask)):
            return None
        if bool((ids.unflatten(0, (-1, beams)) == ids[::beams, None]).all()):
            narrowed = {"encoder_outputs": BaseModelOutput(last_hidden_state=encoded), "attention_mask": mask}
            return args, given | narrowed | {"decoder_input_ids": ids[::beams]}
        cache.widen(beams)
        return None

    def widen(_: Any, __: Any, given: dict[str, Any], output: Any) -> Any:
        if len(output.logits) < beams * len(mask):
            output.logits = output.logits[:, -1:].repeat_interleave(beams, dim=0)
        return output

    if beams == 1:
        yield
        return
    hooks = (
        model.register_forward_pre_hook(narrow, with_kwargs=True),
        model.register_forward_hook(widen, with_kwargs=True),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _shared_attention(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **options: Any
) -> Any:
    """Compute attention in which several rows of `query` share a row of `key`, as more positions of one query.

    Args:
        module: The layer.
        query: [texts * beams, heads, 1, size].
        key: [texts, heads, length, size].
        value: [texts, heads, length, size].
        mask: Valid keys, [texts * beams, 1, 1, length]; None for all.
        **options: Further arguments of transformers' attention.

    Returns:
        [texts * beams, 1, heads, size], and None: no attention weights.
    """
    beams = len(query) // len(key)
    if beams == 1:
        return sdpa_attention_forward(module, query, key, value, mask, **options)
    folded = query.squeeze(2).unflatten(0, (-1, beams)).transpose(1, 2)
    found, _ = sdpa_attention_forward(module, folded, key, value, None if mask is None else mask[::beams], **options)
    return found.flatten(0, 1).unsqueeze(1), None


AttentionInterface.register(ATTENTION, _shared_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
