"""COMET: a sequence-to-sequence model that infers the causes and effects of an event (section 3.3.3).

A BART checkpoint, decoded by transformers' beam search in float32. There are two query formats, chosen by the profile.
COMET-BART reads event and relation ("my dog died xReact [GEN]"). comet-mini reads only the event, and its output begins
with the relation ("[xReact]"), so that each event is encoded once.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Formatter
from typing import Any, Literal

import torch

from localemp.commonsense.checkpoint import load_checkpoint
from localemp.commonsense.decoding import Texts
from localemp.commonsense.events import check_events
from localemp.commonsense.inferences import Beam, Beams, check_relations
from localemp.errors import OptionError, WeightsError
from localemp.models.atomic import ATOMIC_2020, RELATIONS
from localemp.utils.timing import count_seconds
from localemp.utils.torch import pick_device
from localemp.utils.truncation import cut_beginning, end_in_sight

# Further digits depend on which texts share a batch; at four, about one score in some hundred still does.
_DIGITS = 4

# Cost of a beam in the batch budget, in encoder tokens: about as much computation and memory as all decoder steps of a
# beam (BART-large: 8 and 10).
_BEAM = 8

# Tokens by which relations may differ in length; an event this close to the limit is checked for every relation.
_MARGIN = 8

# Typical length of an event, in tokens.
_EVENT = 24

Tokens = tuple[int, ...]


class Comet:
    """Infers the best beams for (event, relation) queries, best first.

    Args:
        folder: A checkpoint saved by transformers: configuration, weights and tokenizer.
        query: Template of the encoder's input, with the field `{event}`.
        decoder_prompt: Template of the beginning of the decoder's output, which is not part of an inference. The field
            `{relation}` is here or in `query`.
        relations: Relations that the checkpoint was trained on; None for all of ATOMIC 2020.
        beams: Width of the beam search.
        keep: Number of beams that become inferences, at most `beams`.
        max_new_tokens: Longest inference, in tokens.
        batch_tokens: Size of a batch: encoder tokens, including padding, plus 8 for every beam. A longer text is a
            batch of its own. By default 2,048 on a CPU and 16,384 on a GPU.
        dtype: "bfloat16" is faster on supported processors, with slightly different inferences.
        device: torch device; by default "cuda" if available, else "cpu".

    Raises:
        OptionError: A value is out of range, the query lacks a field, or torch does not have the device.
        WeightsError: The folder has no complete sequence-to-sequence checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        *,
        query: str = "{event} {relation} [GEN]",
        decoder_prompt: str = "",
        relations: Sequence[str] | None = None,
        beams: int = 5,
        keep: int = 5,
        max_new_tokens: int = 24,
        batch_tokens: int | None = None,
        dtype: Literal["float32", "bfloat16"] = "float32",
        device: str | None = None,
    ) -> None:
        _check_numbers(beams, keep, max_new_tokens, batch_tokens)
        _check_texts(query, decoder_prompt)
        self._folder, self._query, self._decoder_prompt, self._trained = folder, query, decoder_prompt, relations
        self._beams, self._keep = beams, keep
        self._max_new_tokens = max_new_tokens
        place = pick_device(device)
        self._batch_tokens = batch_tokens or (2_048 if place.type == "cpu" else 16_384)
        self._model, self._tokenizer = load_checkpoint(folder, dtype)
        self._model.to(place).eval()
        # The checkpoint's decoding settings stay, except its lengths: BART-large's are meant for summaries.
        self._model.generation_config.max_length = None
        self._positions: int = getattr(self._model.config, "max_position_embeddings", self._tokenizer.model_max_length)
        self._known = (relations or ATOMIC_2020) if "{relation}" in query else ("",)
        self._longest = max(self._known, key=lambda relation: len(self._tokens([""], relation)[0]))
        self._padding: int = self._model.config.pad_token_id or 0

    @property
    def events_at_once(self) -> int:
        """About how many short events fill one batch."""
        return max(1, self._batch_tokens // (_BEAM * self._beams + _EVENT))

    def infer(self, events: Sequence[str], relations: Sequence[str] = RELATIONS) -> list[Beams]:
        """Return the inferences of each event for each relation (Eq. 6 to 9), in the order of `events`.

        Each relation has up to `keep` beams with stripped texts; empty texts and duplicates are left out. Equal queries
        are computed once, and the result does not depend on the other events. An event that is too long for the encoder
        is cut by `fit`.

        Raises:
            OptionError: An event is empty, the checkpoint was not trained on a relation, or the query alone is too long
                for the encoder.
            UnknownNameError: ATOMIC 2020 has no such relation.
            WeightsError: The checkpoint's tokenizer does not know the decoder prompt.
        """
        check_events(events)
        check_relations(relations, self._trained)
        with count_seconds("comet"):
            return self._infer(events, relations)

    def _infer(self, events: Sequence[str], relations: Sequence[str]) -> list[Beams]:
        # Without duplicates, in order.
        distinct = list(dict.fromkeys(events))
        fitted = [
            event if fits else self.fit(event)[0] for event, fits in zip(distinct, self._fits(distinct), strict=True)
        ]
        asked = {relation: dict(zip(distinct, self._tokens(fitted, relation), strict=True)) for relation in relations}
        prompts = {relation: self._prompt(relation) for relation in relations}
        answers: dict[tuple[str, Tokens], tuple[Beam, ...]] = {}
        for together, texts in _alike(asked).items():
            for batch in _batches(texts, self._batch_tokens, _BEAM * self._beams):
                answers |= self._answer(batch, {relation: prompts[relation] for relation in together})
        return [{relation: answers[relation, asked[relation][event]] for relation in relations} for event in events]

    def fit(self, event: str) -> tuple[str, int]:
        """Return the end of an event that fits the encoder, and how many characters were cut from its beginning.

        Whole sentences are cut, so that the rest stays readable; if the last sentence alone is too long, it is cut at a
        token. The cut is the same for all relations.

        Raises:
            OptionError: The query alone is too long for the encoder.
        """
        if self._fits([event])[0]:
            return event, 0
        cut = cut_beginning(event, self._positions, self._tokenizer, self._excess)
        if cut == len(event):
            raise OptionError(
                f"the query {self._query!r} alone exceeds the encoder's {self._positions} tokens",
                "shorten the query in the model's profile",
            )
        return event[cut:], cut

    def _fits(self, events: Sequence[str]) -> list[bool]:
        """Return for each event whether it is clearly short enough for every relation."""
        seen = [end_in_sight(event, self._positions) for event in events]
        return [
            len(tokens) + _MARGIN <= self._positions and len(part) == len(event)
            for tokens, event, part in zip(self._tokens(seen, self._longest), events, seen, strict=True)
        ]

    def _excess(self, event: str) -> int:
        """Return by how many tokens an event's longest query is too long; near the limit, checks every relation."""
        excess = len(self._tokens([event], self._longest)[0]) - self._positions
        if abs(excess) > _MARGIN:
            return excess
        return max(len(self._tokens([event], relation)[0]) for relation in self._known) - self._positions

    def _tokens(self, events: Sequence[str], relation: str) -> list[Tokens]:
        """Return the encoder's input for each event."""
        texts = [self._query.format(event=event, relation=relation) for event in events]
        return list(map(tuple, self._tokenizer(texts, verbose=False)["input_ids"])) if texts else []

    def _prompt(self, relation: str) -> Tokens:
        """Return the beginning of the decoder's output; empty if the model decides."""
        if not self._decoder_prompt:
            return ()
        text = self._decoder_prompt.format(relation=relation)
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if self._tokenizer.unk_token_id in ids:
            raise WeightsError(
                f"the tokenizer in {self._folder} does not know the decoder prompt {text!r}",
                "correct decoder_prompt and relations in the profile to those of the checkpoint's training",
            )
        config = self._model.config
        start = self._model.generation_config.decoder_start_token_id
        return (config.decoder_start_token_id if start is None else start, *ids)

    def _answer(
        self, texts: Sequence[Tokens], prompts: dict[str, Tokens]
    ) -> dict[tuple[str, Tokens], tuple[Beam, ...]]:
        """Return the beams of every text for every relation, given the relations' decoder prompts."""
        answers = {}
        with torch.inference_mode():
            encoded = Texts(self._model, texts, self._padding)
            for relation, prompt in prompts.items():
                found = encoded.generate(
                    self._beams,
                    prompt,
                    num_return_sequences=self._keep,
                    max_new_tokens=self._max_new_tokens,
                    min_length=0,
                )
                beams = self._read(found.sequences[:, len(prompt) :], self._scores(found))
                for number, text in enumerate(texts):
                    answers[relation, text] = _distinct(beams[number * self._keep : (number + 1) * self._keep])
        return answers

    def _read(self, sequences: torch.Tensor, scores: Sequence[float]) -> list[Beam]:
        texts = self._tokenizer.batch_decode(sequences, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [Beam(text.strip(), round(score, _DIGITS)) for text, score in zip(texts, scores, strict=True)]

    def _scores(self, found: Any) -> list[float]:
        """Return the length-normalized log probability of every beam, which greedy search does not report itself."""
        if self._beams > 1:
            scores: list[float] = found.sequences_scores.tolist()
            return scores
        steps = self._model.compute_transition_scores(found.sequences, found.scores, normalize_logits=True)
        made = found.sequences[:, -steps.shape[1] :] != self._padding
        means: list[float] = ((steps.masked_fill(~made, 0)).sum(dim=1) / made.sum(dim=1).clamp(min=1)).tolist()
        return means


def _alike(asked: dict[str, dict[str, Tokens]]) -> dict[tuple[str, ...], list[Tokens]]:
    """Group texts by their relations: inferences of one relation have similar lengths, and end together.

    Args:
        asked: Maps relation to event to encoder input; with a decoder prompt, the input is the same for all relations.
    """
    relations: dict[Tokens, dict[str, None]] = defaultdict(dict)
    for relation, texts in asked.items():
        for text in texts.values():
            relations[text][relation] = None
    alike = defaultdict(list)
    for text, of_text in relations.items():
        alike[tuple(of_text)].append(text)
    return alike


def _batches(texts: list[Tokens], budget: int, fixed: int) -> Iterator[list[Tokens]]:
    """Yield batches of texts of similar length; each text costs the tokens of the longest one plus a fixed number.

    The longest come first, so that a batch that does not fit memory fails at once.
    """
    ordered = sorted(texts, key=len, reverse=True)
    while ordered:
        count = max(1, budget // (len(ordered[0]) + fixed))
        yield ordered[:count]
        ordered = ordered[count:]


def _distinct(beams: Sequence[Beam]) -> tuple[Beam, ...]:
    """Remove empty texts and duplicates; the best of equal texts stays."""
    kept: dict[str, Beam] = {}
    for beam in beams:
        if beam.text:
            kept.setdefault(beam.text, beam)
    return tuple(kept.values())


def _check_numbers(beams: int, keep: int, max_new_tokens: int, batch_tokens: int | None) -> None:
    numbers = {"beams": beams, "keep": keep, "max_new_tokens": max_new_tokens, "batch_tokens": batch_tokens}
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise OptionError(f"{name} is {value}; it must be at least 1", f"give {name} a positive number")
    if keep > beams:
        given = f"{beams} beams give" if beams > 1 else "1 beam gives"
        raise OptionError(f"keep is {keep}, but {given} no more than {beams}", "raise beams or lower keep")


def _check_texts(query: str, decoder_prompt: str) -> None:
    hint = "use the form of the default: {event} {relation} [GEN]"
    try:
        asked, begun = ({name for _, name, _, _ in Formatter().parse(text) if name} for text in (query, decoder_prompt))
    except ValueError as error:
        raise OptionError(f"the query {query!r} {decoder_prompt!r} is not a valid template: {error}", hint) from error
    if "event" not in asked or "event" in begun or asked | begun != {"event", "relation"}:
        raise OptionError(
            f"the query {query!r} must have the field {{event}}, it or the decoder prompt {decoder_prompt!r} the field "
            "{relation}, and neither any other field",
            hint,
        )
