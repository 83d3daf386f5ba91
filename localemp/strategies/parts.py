"""Parts of strategies: their options, what they fetch, and how they are built.

SHOUT = Option(name="shout", type=int, default=1, help="How loud.")
register_part("loud", Part(place="knowledge", about="...", make=lambda context: Loud(context.option(SHOUT)), ...))
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localemp.data.conversations import Instances
from localemp.data.reader import Source
from localemp.errors import OptionError
from localemp.models.profiles import Kind, load_profile
from localemp.models.weights import Weights, resolve
from localemp.prompting.template import Template
from localemp.strategies.base import Enricher, Flow
from localemp.utils.extras import require
from localemp.utils.option import Option, Shared
from localemp.utils.plugins import as_entry
from localemp.utils.progress import OnProgress, silent
from localemp.utils.text import one_line

if TYPE_CHECKING:
    from localemp.retrieval.encoder import Encoder

_OPTIONS: Mapping[Kind, str] = {"encoder": "--encoder", "commonsense": "--comet"}  # that take a folder of weights


@dataclass(frozen=True, slots=True, kw_only=True)
class PartContext:
    """Everything that a part can be built from.

    Attributes:
        template: The prompt template.
        options: Values of the parts' options; missing ones have their defaults.
        data: Source of the dialogues, as `load_dialogues` takes it.
        instances: How instances are built from EmpatheticDialogues.
        seed: Seed of samples.
        on_progress: Called with bytes fetched or verified, and with dialogues embedded.
        shared: Builds an object once for all strategies of a model: `shared("a key", make)`. The key must contain the
            options and the template that the object depends on.
    """

    template: Template
    options: Mapping[str, Any] = field(default_factory=dict)
    data: Source = "samples"
    instances: Instances = "clean"
    seed: int = 0
    on_progress: OnProgress = silent
    shared: Shared = field(default_factory=Shared)

    def option(self, option: Option) -> Any:
        """Return the value of an option."""
        return self.options.get(option.name, option.default)

    def weights(self, name: str, kind: Kind) -> Weights:
        """Return a model's weights, found or fetched, and verified.

        Raises:
            LocalempError: The model does not exist, or its weights cannot be fetched.
        """
        option = _OPTIONS.get(kind, "--model")
        return self.shared(
            ("weights", kind, name), lambda: resolve(load_profile(name, kind), self.on_progress, option=option)
        )

    def encoder(self, name: str, dtype: str) -> "tuple[Weights, Encoder]":
        """Return a sentence encoder, loaded once for all parts, and its weights.

        Raises:
            LocalempError: The encoder does not exist or cannot be loaded.
        """
        require("models", f"the encoder {name}", "sentence_transformers", "torch", "transformers")
        from localemp.retrieval.encoder import Encoder

        found = self.weights(name, "encoder")
        return found, self.shared(("encoder", found.folder, dtype), lambda: Encoder(found.folder, dtype))


def _fetch_nothing(context: PartContext) -> None:
    """Fetch nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A named part of a strategy.

    Attributes:
        about: One line for `--help`.
        place: Slot of the part; parts of the same slot exclude each other, and None combines with no other part.
        make: Builds an enricher or a flow; returns None if the part adds nothing.
        options: The part's options. Parts share an option by referring to the same object.
        fetch: Fetches everything that `make` needs without loading a model, so that errors and downloads come first.
        offered: Whether `serve` offers strategies with it without being told to.
    """

    about: str
    place: str | None
    make: Callable[[PartContext], Enricher | Flow | None]
    options: tuple[Option, ...] = ()
    fetch: Callable[[PartContext], None] = _fetch_nothing
    offered: bool = True


def as_part(name: str, value: object) -> Part:
    """Return a user's part: a `Part`, or a class of enrichers or flows that is made without arguments.

    Args:
        name: Its name; an enricher has a place of its own, which is called so.
        value: The part or the class.

    Raises:
        OptionError: It is something else, or its fields are.
    """

    def of_class(kind: type) -> Part:
        about = one_line((inspect.getdoc(kind) or kind.__name__).partition("\n")[0])
        return Part(about=about, place="flow" if issubclass(kind, Flow) else name, make=lambda _: kind())

    part = as_entry("a strategy", value, Part, (Flow, Enricher), of_class)
    if not isinstance(part.about, str) or not isinstance(part.place, str | None) or not callable(part.make):
        raise OptionError("of a Part, about and place are texts, and make is a function of a PartContext")
    return part
