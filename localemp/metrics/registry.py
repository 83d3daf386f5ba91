"""The metrics by the names that tables have.

A new metric is one file with a subclass of `Metric`, and one call of `register_metric`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from localemp.errors import OptionError, UnknownNameError
from localemp.metrics.base import PAPER, Metric
from localemp.metrics.replies import Replies
from localemp.utils.option import Option, Shared, defaults, unique
from localemp.utils.plugins import as_entry, check_options, described, load_plugins, why_missing
from localemp.utils.progress import OnProgress, silent

if TYPE_CHECKING:
    from localemp.metrics.bertscore import BertScore

GROUPS: Mapping[str, str] = {
    PAPER: "As in the paper's Tables 1 and 3",
    "overlap": "Similarity to people's replies",
    "diversity": "Diversity of all replies",
    "form": "Form of the replies",
    "epitome": "Empathy (EPITOME)",
    "choice": "A judge's choice",
}
"""The tables of metrics, in order: a key of `Metric.group` and the title. Metrics of plug-ins are in the first one."""

SECONDARY = "Secondary metrics"
"""The title of the table of hidden metrics."""

BERTSCORE = ("P_BERT", "R_BERT", "F_BERT")
EMBSIM = "EmbSim"
"""What stands in for BERTScore where its model cannot be had."""
PERPLEXITY = ("PPL", "BPB")
EPITOME = ("ER", "IP", "EX", "diff-ER", "diff-IP", "diff-EX")
CHOICE = "P(choice)"

# What papers call a metric, and what our tables call it.
_ALSO_CALLED = {
    "bleu": "B-2 and B-4",
    "bertscore": "P_BERT, R_BERT and F_BERT",
    "accuracy": "Acc",
    "distinct": "Dist-1 and Dist-2",
    "perplexity": "PPL",
    "rouge": "ROUGE-L",
    "epitome": "ER, IP and EX",
}


@dataclass(frozen=True, slots=True)
class MetricContext:
    """Everything that a metric can be built from.

    Attributes:
        options: Values of the metrics' options; what is not in it has the option's default.
        fetch: Whether models that are not on this machine may be fetched.
        judge: Whose choices P(choice) is of, by name; empty for the judge that was asked last.
        aspect: By which aspect; empty for the one that was asked last.
        on_progress: Called with bytes that are fetched or checked, and with the texts read.
        shared: Makes a thing once for several metrics: `shared("a key", make)`.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    fetch: bool = True
    judge: str = ""
    aspect: str = ""
    on_progress: OnProgress = silent
    shared: Shared = field(default_factory=Shared)

    def option(self, name: str) -> Any:
        """Return the value of an option."""
        return self.options.get(name, defaults(metric_options())[name])


MakeMetric = Callable[[MetricContext], Metric]


@dataclass(frozen=True, slots=True)
class MetricEntry:
    """A named metric: one column of the tables.

    Attributes:
        make: Makes the metric. That is cheap: a model is loaded by the first `statistics`.
        options: Its options; `score` and `compare` have these options.
        needs_model: Whether it needs one.
        on_request: The option of `score` that computes it, if it is left out without; "" if it is always there.
    """

    make: MakeMetric
    options: tuple[Option, ...] = ()
    needs_model: bool = False
    on_request: str = ""


METRICS: dict[str, MetricEntry] = {}


def register_metric(
    name: str,
    make: MakeMetric,
    *,
    options: Iterable[Option] = (),
    needs_model: bool = False,
    on_request: str = "",
) -> None:
    """Add a metric; `score`, `compare` and `report` then have its column.

    Args:
        name: What tables call it; the metric's own `name`.
        make: Makes the metric. That has to be cheap: a model is loaded by the first `statistics`.
        options: Its options.
        needs_model: Whether it needs a model; a report then shows what `score` kept of it and computes nothing.
        on_request: The option of `score` that computes it, if it is left out of tables until a run has it.

    Raises:
        OptionError: There is a metric of this name already, or another option of the same name.
    """
    _add(name, MetricEntry(make, tuple(options), needs_model, on_request))


def _add(name: str, entry: MetricEntry) -> None:
    if name in METRICS:
        raise OptionError(f"the metric {name!r} already exists")
    unique([*_options(), *entry.options])
    METRICS[name] = entry


def metric_entries() -> Mapping[str, MetricEntry]:
    """Return the metrics by name, those of plug-ins included."""
    load_plugins("metric", _add_plugin)
    return METRICS


def _add_plugin(name: str, value: object) -> None:
    """Register a metric of a plug-in: a `MetricEntry`, or a class that is made without arguments."""
    entry = as_entry("a metric", value, MetricEntry, (Metric,), lambda kind: MetricEntry(lambda _: kind()))
    check_options(name, entry.options, _options())
    _add(name, entry)
    try:
        made = entry.make(MetricContext(fetch=False))  # every table makes it, and a failure would stop them all
        if not isinstance(made, Metric):
            raise OptionError(f"it makes {described(made)}, not a Metric")
        if made.name != name:
            raise OptionError(f"its metric has another name, {made.name!r}")
        if made.group not in GROUPS:
            raise OptionError(f"its group is {made.group!r}", f"known: {', '.join(GROUPS)}")
    except BaseException:
        del METRICS[name]
        raise


def metric_options() -> tuple[Option, ...]:
    """Return the options of all metrics, each once."""
    metric_entries()
    return _options()


def _options() -> tuple[Option, ...]:
    return unique(option for entry in METRICS.values() for option in entry.options)


def metric(name: str, context: MetricContext | None = None) -> Metric:
    """Return a metric by name.

    Raises:
        UnknownNameError: There is no such metric; the known ones are listed.
    """
    known = metric_entries()
    if name not in known:
        raise UnknownNameError("metric", name, known, why=why_missing("metric", name), all_in="docs/metrics.md")
    return known[name].make(context or MetricContext())


def metrics(
    context: MetricContext | None = None,
    *,
    with_models: bool = True,
    without: Collection[str] = (),
    also: Collection[str] = (),
    only: Collection[str] = (),
) -> list[Metric]:
    """Return all metrics but those on request, those of the paper's tables first.

    Args:
        context: What they are made from; they share it.
        with_models: Whether those that need a model are among them.
        without: Names to leave out.
        also: Names of metrics on request that are wanted, see `on_request`.
        only: Names of the metrics that are wanted, on request or not; by default all.

    Raises:
        UnknownNameError: `only` has a name that no metric has.
    """
    context = context or MetricContext()
    if only:
        return [metric(name, context) for name in dict.fromkeys(only)]
    names = [
        name
        for name, entry in metric_entries().items()
        if name not in without and (with_models or not entry.needs_model) and (not entry.on_request or name in also)
    ]
    return [METRICS[name].make(context) for name in names]


def on_request(systems: Iterable[Replies]) -> list[str]:
    """Return the metrics on request that one of these systems has a value of."""
    systems = list(systems)
    context = MetricContext()
    entries = metric_entries().items()
    # What a model has found stands among the scores.
    asked = [metric(name, context) for name, entry in entries if entry.on_request and not entry.needs_model]
    return [each.name for each in asked if any(not each.missing(system) for system in systems)]


def decimals(name: str) -> int:
    """Return how many decimals tables show of a metric."""
    return metric(name).decimals if name in metric_entries() else Metric.decimals


def group_of(name: str) -> str:
    """Return the table that a metric belongs to, the first one for an unknown metric."""
    return metric(name).group if name in metric_entries() else PAPER


def by_group(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names of metrics by the table they belong to, in the order of `GROUPS`."""
    found: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name in names:
        found[group_of(name)].append(name)
    return {group: members for group, members in found.items() if members}


def depends_on_number(name: str) -> bool:
    """Return whether values of a metric are comparable only on the same number of replies."""
    return name in metric_entries() and metric(name).depends_on_number


def is_hidden(name: str) -> bool:
    """Return whether a metric is only shown when asked for."""
    return name in metric_entries() and metric(name).hidden


def _distinct(order: int, _: MetricContext) -> Metric:
    from localemp.metrics.distinct import Distinct

    return Distinct(order)


def _ead(order: int, _: MetricContext) -> Metric:
    from localemp.metrics.ead import ExpectationAdjustedDistinct

    return ExpectationAdjustedDistinct(order)


def _self_bleu(_: MetricContext) -> Metric:
    from localemp.metrics.self_bleu import SelfBleu

    return SelfBleu()


def _length(_: MetricContext) -> Metric:
    from localemp.metrics.length import Length

    return Length()


def _question_rate(_: MetricContext) -> Metric:
    from localemp.metrics.question_rate import QuestionRate

    return QuestionRate()


def _repetition(_: MetricContext) -> Metric:
    from localemp.metrics.repetition import Repetition

    return Repetition()


def _loops(_: MetricContext) -> Metric:
    from localemp.metrics.repetition import Loops

    return Loops()


def _context(of: str, _: MetricContext) -> Metric:
    from localemp.metrics.context_overlap import ContextOverlap

    return ContextOverlap(of)


def _bleu(order: int, view: str, _: MetricContext) -> Metric:
    from localemp.metrics.bleu import Bleu

    return Bleu(order, view)


def _emotion(name: str, _: MetricContext) -> Metric:
    from localemp.metrics.emotion import EmotionMetric

    return EmotionMetric(name)


def bertscore(context: MetricContext) -> "BertScore":
    """Return what the three metrics of BERTScore share."""
    from localemp.metrics.bertscore import BertScore

    model = context.option(BERTSCORE_MODEL.name)
    return context.shared("BERTScore", lambda: BertScore(model, fetch=context.fetch, on_progress=context.on_progress))


def _bertscore(column: int, context: MetricContext) -> Metric:
    return bertscore(context).metrics()[column]


def _embsim(context: MetricContext) -> Metric:
    from localemp.metrics.embedding_similarity import EmbeddingSimilarity

    model = context.option(EMBSIM_MODEL.name)
    return EmbeddingSimilarity(model, fetch=context.fetch, on_progress=context.on_progress)


def _perplexity(name: str, context: MetricContext) -> Metric:
    from localemp.metrics.perplexity import KeptLogprobs, Perplexity

    return Perplexity(name, context.shared("log probabilities", KeptLogprobs))


def _rouge_l(_: MetricContext) -> Metric:
    from localemp.metrics.rouge import RougeL

    return RougeL()


def _meteor(context: MetricContext) -> Metric:
    from localemp.metrics.meteor import Meteor
    from localemp.metrics.wordnet_files import load_wordnet

    return Meteor(lambda: load_wordnet(fetch=context.fetch, on_progress=context.on_progress))


def _cider(_: MetricContext) -> Metric:
    from localemp.metrics.cider import Cider

    return Cider()


def _epitome(column: int, context: MetricContext) -> Metric:
    from localemp.metrics.epitome.metric import Epitome

    folder = context.option(EPITOME_MODEL.name)
    made = context.shared("EPITOME", lambda: Epitome(folder, fetch=context.fetch, on_progress=context.on_progress))
    return made.metrics()[column]


EPITOME_MODEL = Option(
    name="epitome_model",
    metavar="FOLDER",
    help="A model of EPITOME; by default what `localemp models train epitome` keeps in localemp's cache.",
)


def _choice(context: MetricContext) -> Metric:
    from localemp.metrics.choice import Choice

    return Choice(context.judge, context.aspect)


BERTSCORE_MODEL = Option(
    name="bertscore_model",
    default="roberta-large",
    metavar="MODEL",
    help="A name, a Hugging Face id or a folder of weights; :17 behind it is the layer.",
)

EMBSIM_MODEL = Option(
    name="embsim_model",
    default="all-minilm-l6-v2",
    metavar="MODEL",
    help="Also compute EmbSim, by this sentence encoder: a name, a Hugging Face id or a folder of weights.",
)

# The order of the paper's Tables 1 and 3, then the second columns.
register_metric("Dist-1", partial(_distinct, 1))
register_metric("Dist-2", partial(_distinct, 2))
for _column, _name in enumerate(BERTSCORE):
    register_metric(_name, partial(_bertscore, _column), options=[BERTSCORE_MODEL], needs_model=True)
register_metric("B-2", partial(_bleu, 2, ""))
register_metric("B-4", partial(_bleu, 4, ""))
register_metric("Acc", partial(_emotion, "Acc"))
for _view in ("lower", "13a"):
    register_metric(f"B-2 {_view}", partial(_bleu, 2, _view))
    register_metric(f"B-4 {_view}", partial(_bleu, 4, _view))
for _name in ("Acc variants", "Macro-F1", "No label"):
    register_metric(_name, partial(_emotion, _name))
for _name in PERPLEXITY:
    register_metric(_name, partial(_perplexity, _name), on_request="--ppl")

# Similarity to the references.
register_metric("ROUGE-L", _rouge_l)
register_metric("METEOR", _meteor, needs_model=True)
register_metric("CIDEr", _cider)
register_metric(EMBSIM, _embsim, options=[EMBSIM_MODEL], needs_model=True, on_request=f"--metric {EMBSIM}")

# Of the replies themselves: no references, but for "Context ref".
register_metric("Dist-3", partial(_distinct, 3))
register_metric("EAD-1", partial(_ead, 1))
register_metric("EAD-2", partial(_ead, 2))
register_metric("Self-BLEU", _self_bleu)
register_metric("Length", _length)
register_metric("Question rate", _question_rate)
register_metric("Repetition", _repetition)
register_metric("Context", partial(_context, "reply"))
register_metric("Loops", _loops)
register_metric("Context ref", partial(_context, "reference"))

# Of empathy: a classifier that the user fits, and a judge.
for _column, _name in enumerate(EPITOME):
    register_metric(_name, partial(_epitome, _column), options=[EPITOME_MODEL], needs_model=True)
register_metric(CHOICE, _choice, on_request="--judge MODEL")
