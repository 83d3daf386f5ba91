"""COMET: a sequence-to-sequence model that tells what may lie behind an event and what may follow (section 3.3.3).

The plain way: a BART checkpoint, such as COMET-BART of ATOMIC 2020, answered by transformers' beam search in float32.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from string import Formatter
from typing import Any

import torch
from safetensors import SafetensorError
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from localemp.commonsense.relations import RELATIONS, Inferences
from localemp.device import pick_device
from localemp.errors import OptionError, WeightsError


class Comet:
    """Answers (event, relation) queries with the texts of the best beams, best first.

    Args:
        folder: A checkpoint as transformers saves it: configuration, weights and tokenizer.
        query: How the checkpoint was trained to be asked; has the fields `{event}` and `{relation}`.
        beams: Width of the beam search.
        keep: How many of the beams become inferences, at most `beams`.
        max_new_tokens: Longest inference, in tokens of the checkpoint.
        batch_size: Queries in one forward pass; each takes `beams` rows in the decoder.
        device: As torch names it; by default "cuda" where there is one, else "cpu".

    Raises:
        OptionError: A value out of its range, a query without its fields, or a device that torch does not have.
        WeightsError: The folder holds no complete sequence-to-sequence checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        query: str = "{event} {relation} [GEN]",
        beams: int = 5,
        keep: int = 5,
        max_new_tokens: int = 24,
        batch_size: int = 16,
        device: str | None = None,
    ) -> None:
        _check_options(query, beams, keep, max_new_tokens, batch_size)
        self._query, self._beams, self._keep = query, beams, keep
        self._max_new_tokens, self._batch_size = max_new_tokens, batch_size
        self._device = pick_device(device)
        self._model, self._tokenizer = _load(folder)
        self._model.to(self._device).eval()
        # The checkpoint's other decoding settings stay; lengths are ours, and BART-large's own are for summaries.
        self._model.generation_config.max_length = None
        self._positions: int = getattr(self._model.config, "max_position_embeddings", self._tokenizer.model_max_length)
        self._padding: int = self._model.config.pad_token_id or 0

    def infer(self, events: Sequence[str], relations: Sequence[str] = RELATIONS) -> list[Inferences]:
        """Inferences of each event for each relation (Eq. 6 to 9), in the order of `events`.

        Each relation gets up to `keep` texts, stripped; empty ones and repetitions are left out. The same query is
        answered once, and which other events are asked with it makes no difference. An event that is too long for the
        encoder loses its beginning, so that what was said last stays.

        Raises:
            OptionError: An event or a relation is empty, or the query alone is longer than the encoder takes.
        """
        for number, event in enumerate(events, 1):
            if not event.strip():
                raise OptionError(f"event {number} is empty", "give COMET a text that says what happened")
        if not all(relation.strip() for relation in relations):
            raise OptionError("a relation has no name", f"ask for {', '.join(RELATIONS)}")
        # A dictionary, so that equal queries are one.
        tokens = {(event, relation): self._tokens(event, relation) for event in events for relation in relations}
        # Longest first: like lengths share a batch, and a batch that does not fit memory fails at once.
        queries = sorted(tokens, key=lambda query: -len(tokens[query]))
        answers: dict[tuple[str, str], tuple[str, ...]] = {}
        for start in range(0, len(queries), self._batch_size):
            batch = queries[start : start + self._batch_size]
            answers.update(zip(batch, self._answer([tokens[query] for query in batch]), strict=True))
        return [{relation: answers[event, relation] for relation in relations} for event in events]

    def _tokens(self, event: str, relation: str) -> list[int]:
        """Token ids of a query, the event cut from the left until the query fits the encoder."""
        ids = self._ids(event, relation)
        while (excess := len(ids) - self._positions) > 0:
            spans = self._tokenizer(event, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            if excess >= len(spans):
                raise OptionError(
                    f"the query {self._query!r} with relation {relation!r} is longer than the {self._positions} tokens "
                    "that the encoder takes",
                    "shorten the query in the model's profile",
                )
            # One character can be several tokens, so at least one goes.
            event = event[max(1, spans[excess][0]) :]
            ids = self._ids(event, relation)
        return ids

    def _ids(self, event: str, relation: str) -> list[int]:
        ids: list[int] = self._tokenizer(self._query.format(event=event, relation=relation), verbose=False)["input_ids"]
        return ids

    def _answer(self, batch: list[list[int]]) -> list[tuple[str, ...]]:
        # Padded on the right: BART's positions are absolute, so padding on the left would move the text.
        pad = partial(pad_sequence, batch_first=True)
        with torch.inference_mode():
            beams = self._model.generate(
                input_ids=pad([torch.tensor(ids) for ids in batch], padding_value=self._padding).to(self._device),
                attention_mask=pad([torch.ones(len(ids), dtype=torch.long) for ids in batch]).to(self._device),
                num_beams=self._beams,
                num_return_sequences=self._keep,
                max_new_tokens=self._max_new_tokens,
                min_length=0,
                do_sample=False,
            )
        texts = self._tokenizer.batch_decode(beams, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        texts = [text.strip() for text in texts]
        groups = [texts[start : start + self._keep] for start in range(0, len(texts), self._keep)]
        return [tuple(dict.fromkeys(text for text in group if text)) for group in groups]


def _check_options(query: str, beams: int, keep: int, max_new_tokens: int, batch_size: int) -> None:
    numbers = {"beams": beams, "keep": keep, "max_new_tokens": max_new_tokens, "batch_size": batch_size}
    for name, value in numbers.items():
        if value < 1:
            raise OptionError(f"{name} is {value}; COMET needs at least 1", f"give {name} a positive number")
    if keep > beams:
        raise OptionError(
            f"keep is {keep}, but {beams} beams give only {beams} inferences", "raise beams or lower keep"
        )
    try:
        fields = {name for _, name, _, _ in Formatter().parse(query) if name is not None}
    except ValueError as error:
        raise OptionError(f"the query {query!r} is no template: {error}", _QUERY_HINT) from error
    if fields != {"event", "relation"}:
        raise OptionError(
            f"the query {query!r} must have the fields {{event}} and {{relation}}, no others", _QUERY_HINT
        )


_QUERY_HINT = "write it like the default: {event} {relation} [GEN]"


def _load(folder: Path) -> tuple[Any, Any]:
    """The model in float32 and its tokenizer."""
    hint = "give a folder with config.json, model.safetensors and the tokenizer of a COMET-BART checkpoint"
    if not folder.is_dir():
        raise WeightsError(f"no COMET checkpoint: {folder} is not a folder", hint)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        model, found = AutoModelForSeq2SeqLM.from_pretrained(
            str(folder), dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise WeightsError(f"no COMET checkpoint in {folder}: {reason}", hint) from error
    # transformers would fill these with random numbers and go on.
    if missing := sorted(found["missing_keys"]):
        raise WeightsError(f"the weights in {folder} lack {len(missing)} tensors, such as {missing[0]}", hint)
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        known = f"the tokenizer in {folder} knows {len(tokenizer)} tokens, the weights only {rows}"
        raise WeightsError(f"{known}: they do not belong together", hint)
    return model, tokenizer
