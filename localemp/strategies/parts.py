"""What a part of a strategy is: its options, what it fetches beforehand, and how it is made.

SHOUT = Option(name="shout", type=int, default=1, help="How loud.")
register_part("loud", Part(place="knowledge", about="...", make=lambda context: Loud(context.option(SHOUT)), ...))
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localemp.data.readers import Instances
from localemp.models.profiles import Kind, load_profile
from localemp.models.weights import Weights, resolve
from localemp.prompting.template import Template
from localemp.strategies.base import Enricher, Flow
from localemp.utils.option import Option, Shared
from localemp.utils.progress import OnProgress, silent

if TYPE_CHECKING:
    from localemp.retrieval.encoder import Encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class PartContext:
    """What a part is made from.

    Attributes:
        template: The prompt template.
        options: Values of the parts' options; what is not in it has the option's default.
        data: Where the dialogues come from, as `--data` has it.
        instances: How EmpatheticDialogues becomes dialogues.
        seed: Of samples.
        on_progress: Called with bytes that are fetched or checked, and with rows embedded.
        shared: Makes a thing once for all strategies of a model: `shared("a key", make)`. What depends on an option or
            on the template has that in its key.
    """

    template: Template
    options: Mapping[str, Any] = field(default_factory=dict)
    data: str = "samples"
    instances: Instances = "clean"
    seed: int = 0
    on_progress: OnProgress = silent
    shared: Shared = field(default_factory=Shared)

    def option(self, option: Option) -> Any:
        """Return the value of an option."""
        return self.options.get(option.name, option.default)

    def weights(self, name: str, kind: Kind) -> Weights:
        """Return a model's weights, found or fetched, and checked.

        Raises:
            LocalempError: There is no such model, or its weights cannot be had.
        """
        return self.shared(("weights", kind, name), lambda: resolve(load_profile(name, kind), self.on_progress))

    def encoder(self, name: str, dtype: str) -> "tuple[Weights, Encoder]":
        """Return a sentence encoder, loaded once for all parts, and its weights.

        Raises:
            LocalempError: There is no such encoder, or it cannot be loaded.
        """
        from localemp.retrieval.encoder import Encoder

        found = self.weights(name, "encoder")
        return found, self.shared(("encoder", found.folder, dtype), lambda: Encoder(found.folder, dtype))


def _fetch_nothing(context: PartContext) -> None:
    """The part needs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A named part of a strategy.

    Attributes:
        about: One line for `--help`.
        place: Parts of the same place exclude each other; None stands alone.
        make: Makes an enricher or a flow; None for a part that adds nothing.
        options: What it may be told. Parts share an option by naming the same object.
        fetch: Fetches what `make` needs, loading no model, so that mistakes and downloads come first.
    """

    about: str
    place: str | None
    make: Callable[[PartContext], Enricher | Flow | None]
    options: tuple[Option, ...] = ()
    fetch: Callable[[PartContext], None] = _fetch_nothing
