"""The speed and exactness of COMET, in one run on the same queries.

released  one query at a time, padded to the encoder's maximum, as the released code asks; a sample, scaled up
plain     transformers' `generate` in batches of 32 in the given order, padded to the longest of each
ours      `Comet.infer`
exact     transformers' `generate` one query at a time without padding: ours must give the same texts

python benchmarks/comet.py --data FOLDER                              # comet-mini
python benchmarks/comet.py --data FOLDER --bart-large --repeats 1     # COMET-BART's size, hours on two cores
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import torch
from comet_shapes import floor, save_bart_large, where_time_goes
from rich.console import Console
from rich.table import Table
from script import Script, write_result
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from localemp.commonsense.comet import Comet
from localemp.data.sources import load_dialogues
from localemp.models.atomic import RELATIONS
from localemp.models.profiles import load_profile
from localemp.models.weights import resolve
from localemp.utils.machine import machine, versions
from localemp.utils.torch import pick_device

PLAIN_BATCH = 32
NEW_TOKENS = 24

Texts = list[str]


@dataclass(frozen=True)
class Peer:
    """transformers with the profile's settings."""

    model: Any
    tokenizer: Any
    query: str
    decoder_prompt: str
    beams: int

    def answer(self, asked: Sequence[tuple[str, str]], **padding: Any) -> list[tuple[Texts, list[float]]]:
        """Texts and scores of the beams of some (event, relation), in one batch."""
        texts = [self.query.format(event=event, relation=relation) for event, relation in asked]
        given = self.tokenizer(texts, return_tensors="pt", return_token_type_ids=False, **padding).to(self.model.device)
        begun = torch.tensor([self._begun(relation) for _, relation in asked], device=self.model.device)
        found = self.model.generate(
            **given,
            **({"decoder_input_ids": begun} if self.decoder_prompt else {}),
            num_beams=self.beams,
            num_return_sequences=self.beams,
            max_new_tokens=NEW_TOKENS,
            min_length=0,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
        )
        new = found.sequences[:, begun.shape[1] if self.decoder_prompt else 0 :]
        made = [text.strip() for text in self.tokenizer.batch_decode(new, skip_special_tokens=True)]
        scores = found.sequences_scores.tolist()
        rows = range(0, len(made), self.beams)
        return [(made[row : row + self.beams], scores[row : row + self.beams]) for row in rows]

    def _begun(self, relation: str) -> list[int]:
        text = self.decoder_prompt.format(relation=relation)
        start = self.model.generation_config.decoder_start_token_id
        return [
            start or self.model.config.decoder_start_token_id,
            *self.tokenizer(text, add_special_tokens=False).input_ids,
        ]


@click.command(cls=Script)
@click.option("--data", type=click.Path(path_type=Path), required=True, help="A folder with EmpatheticDialogues.")
@click.option("--comet", "name", default="comet-mini", show_default=True, help="Name, folder or profile.")
@click.option("--bart-large", is_flag=True, help="Random weights of BART-large's shape, with --comet's tokenizer.")
@click.option("--utterances", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--beams", type=click.IntRange(min=2), default=5, show_default=True)
@click.option("--released-queries", type=click.IntRange(min=1), default=20, show_default=True, help="Of them, timed.")
@click.option("--exact-queries", type=click.IntRange(min=0), help="So many are compared one by one; by default all.")
@click.option("--batch-tokens", type=click.IntRange(min=1), help="Comet's; by default its own.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True, help="Ours.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="torch's; by default as it likes.")
@click.option("--device", help='As torch names it; by default "cuda" where there is one.')
@click.option("--seed", default=0, show_default=True, help="Draws the samples and the random weights.")
@click.option("--out", type=click.Path(path_type=Path), help="Write all figures to this JSON file.")
def main(
    data: Path,
    name: str,
    bart_large: bool,
    utterances: int,
    beams: int,
    released_queries: int,
    exact_queries: int | None,
    batch_tokens: int | None,
    dtype: Literal["float32", "bfloat16"],
    repeats: int,
    threads: int | None,
    device: str | None,
    seed: int,
    out: Path | None,
) -> None:
    """Measure a COMET on the last utterances of evenly spaced test dialogues, five relations each."""
    settings = {key: value for key, value in click.get_current_context().params.items() if key not in ("data", "out")}
    if threads:
        torch.set_num_threads(threads)
    events = spoken(data, utterances)
    profile = load_profile(name, "commonsense")
    weights = resolve(profile)
    query, prompt = profile.query or "{event} {relation} [GEN]", profile.decoder_prompt
    with tempfile.TemporaryDirectory() if bart_large else nullcontext() as made:
        folder, place = weights.folder, pick_device(device)
        if made is not None:
            query, prompt = "{event} {relation} [GEN]", ""
            folder = save_bart_large(
                Path(made), weights.folder, [query.format(event=one, relation="") for one in events[:6]], seed, place
            )
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).to(place).eval()
        model.generation_config.max_length = None
        peer = Peer(model, AutoTokenizer.from_pretrained(folder), query, prompt, beams)
        ours = Comet(
            folder,
            query=query,
            decoder_prompt=prompt,
            beams=beams,
            keep=beams,
            max_new_tokens=NEW_TOKENS,
            batch_tokens=batch_tokens,
            dtype=dtype,
            device=device,
        )
        asked = [(event, relation) for event in events for relation in RELATIONS]
        drawn = [asked[int(row)] for row in torch.randperm(len(asked), generator=torch.Generator().manual_seed(seed))]
        plain_texts: dict[tuple[str, str], Texts] = {}
        with torch.inference_mode():
            spent = where_time_goes(ours, events)
            result = {
                "machine": machine()
                | versions()
                | {"load_before": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d")},
                "settings": settings | {"device": str(place), "threads": torch.get_num_threads()},
                "comet": "random weights of BART-large's shape" if bart_large else profile.name,
                "comet_sha256": None if bart_large else weights.digest,
                "speed": speed(ours, peer, events, asked, drawn[:released_queries], repeats, plain_texts),
                "time": spent,
                "floor": floor(ours, events, spent),
                "exact": exact(ours, peer, events, drawn[:exact_queries], plain_texts),
            }
    write_result(out, result)
    show(result)


def spoken(data: Path, count: int) -> list[str]:
    """The last utterances of evenly spaced test dialogues."""
    dialogues = load_dialogues(str(data), "test", "published")
    return [dialogues[row * len(dialogues) // count].last_utterance for row in range(count)]


def speed(
    ours: Comet,
    peer: Peer,
    events: Sequence[str],
    asked: Sequence[tuple[str, str]],
    sample: Sequence[tuple[str, str]],
    repeats: int,
    plain_texts: dict[tuple[str, str], Texts],
) -> dict[str, Any]:
    """Seconds for all queries; repeats alternate, so that all meet the same moments of a shared machine.

    Fills `plain_texts` with what the plain way said.
    """
    maximum = peer.model.config.max_position_embeddings

    def released() -> None:
        for one in sample:
            peer.answer([one], padding="max_length", max_length=maximum, truncation=True)

    def plain() -> None:
        for row in range(0, len(asked), PLAIN_BATCH):
            batch = asked[row : row + PLAIN_BATCH]
            made = peer.answer(batch, padding=True, max_length=maximum, truncation=True)
            plain_texts.update(zip(batch, (texts for texts, _ in made), strict=True))

    ours.infer(events[:4])
    peer.answer(asked[:4], padding=True)
    taken: dict[str, list[float]] = {"ours": [], "plain": [], "released": []}
    for _ in range(repeats):
        taken["ours"].append(seconds(lambda: ours.infer(events)))
        taken["plain"].append(seconds(plain))
        taken["released"].append(seconds(released) * len(asked) / len(sample))
    return {
        "queries": len(asked),
        "seconds": taken,
        "faster_than_plain": _ratios(taken["plain"], taken["ours"]),
        "faster_than_released": _ratios(taken["released"], taken["ours"]),
    }


def exact(
    ours: Comet,
    peer: Peer,
    events: Sequence[str],
    sample: Sequence[tuple[str, str]],
    plain_texts: dict[tuple[str, str], Texts],
) -> dict[str, Any]:
    """The queries whose text differs from the one-by-one result, and the differences of their scores."""
    answers = dict(zip(events, ours.infer(events), strict=True))
    different, digits, largest, plain_different = [], 0, 0.0, 0
    for event, relation in sample:
        ((texts, scores),) = peer.answer([(event, relation)])
        plain_different += texts != plain_texts[event, relation]
        best: dict[str, float] = {}
        for text, score in zip(texts, scores, strict=True):
            if text:
                best.setdefault(text, score)
        found = {beam.text: beam.score or 0.0 for beam in answers[event][relation]}
        if list(found) != list(best):
            gaps = [abs(a - b) for a, b in zip(found.values(), best.values(), strict=False)]
            told = {
                "event": event,
                "relation": relation,
                "ours": found,
                "one_by_one": best,
                "score_gap": max(gaps, default=0.0),
            }
            different.append(told)
        else:
            digits += any(round(best[text], 4) != score for text, score in found.items())
            largest = max([largest, *(abs(best[text] - score) for text, score in found.items())])
    return {
        "queries": len(sample),
        "different": different,
        "share_different": len(different) / max(1, len(sample)),
        "plain_different": plain_different,
        "other_fourth_digit": digits,
        "largest_score_difference": largest,
        "mean_words": statistics.fmean(
            len(beam.text.split()) for found in answers.values() for beams in found.values() for beam in beams
        ),
    }


def seconds(work: Callable[[], object]) -> float:
    """The time, including unfinished work of a GPU."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def show(result: dict[str, Any]) -> None:
    speeds, exactness, console = result["speed"], result["exact"], Console()
    table = Table(title=f"{result['comet']}: {speeds['queries']:,} queries, {result['settings']['dtype']}")
    for column in ("", "seconds", "ours is faster by (median; min to max)"):
        table.add_column(column)
    for name, taken in speeds["seconds"].items():
        ratios = speeds.get(f"faster_than_{name}", [1.0])
        spread = f"{statistics.median(ratios):.2f}; {min(ratios):.2f} to {max(ratios):.2f}"
        table.add_row(name, f"{statistics.median(taken):.1f}", spread)
    console.print(table)
    for part in ("time", "floor"):
        console.print(part, {key: round(value, 2) for key, value in result[part].items()})
    console.print(
        f"{len(exactness['different'])} of {exactness['queries']} queries get other texts than one by one in float32 "
        f"(plain: {exactness['plain_different']}), "
        f"{exactness['other_fourth_digit']} more another fourth digit of a score "
        f"(largest difference {exactness['largest_score_difference']:.1e})"
    )
    for one in exactness["different"][:5]:
        console.print(f"  score gap {one['score_gap']:.1e}: {one['event'][:80]} {one['relation']}", markup=False)
    console.print(json.dumps(result["machine"]), json.dumps(result["settings"]), sep="\n", soft_wrap=True)


def _ratios(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    return [peer / own for peer, own in zip(theirs, ours, strict=True)]


if __name__ == "__main__":
    main()
