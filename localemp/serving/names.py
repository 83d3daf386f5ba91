"""The names of a server's models.

    llama                 the model as it is
    llama@mine            the model with an adapter
    llama:two-stage       a strategy
    llama@mine:two-stage  a strategy with an adapter

An adapter's name holds neither "@" nor ":" (`models/adapters.py`), so no name has two meanings, whatever the model's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from localemp.errors import UnknownNameError, nearest
from localemp.utils.text import one_line


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The names that a server offers.

    Attributes:
        model: The model's.
        adapters: The adapters'.
        strategies: The strategies'.
    """

    model: str
    adapters: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ()

    def of(self, adapter: str, strategy: str = "") -> str:
        """Return the name of a model; empty for no adapter and no strategy."""
        bare = f"{self.model}@{adapter}" if adapter else self.model
        return f"{bare}:{strategy}" if strategy else bare

    def of_strategies(self, adapter: str) -> list[str]:
        """Return the names of all strategies with an adapter, or without one if it is empty."""
        return [self.of(adapter, strategy) for strategy in self.strategies]

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names: those without a strategy first."""
        adapters = ("", *self.adapters)
        yield from map(self.of, adapters)
        for adapter in adapters:
            yield from self.of_strategies(adapter)

    def parse(self, name: str) -> tuple[str, str] | None:
        """Return adapter and strategy of a strategy's name; None if the name is no strategy's.

        The strategy's parts may be in any order.

        Raises:
            UnknownNameError: It names an adapter or a strategy that is not served; lists those that are.
        """
        for adapter in ("", *self.adapters):
            if name.startswith(f"{self.of(adapter)}:"):
                return adapter, self._strategy(name[len(self.of(adapter)) + 1 :])
        # Without adapters of ours, the wrapped app may have some of its own.
        if self.adapters and name.startswith(f"{self.model}@") and name not in map(self.of, self.adapters):
            adapter = name[len(self.model) + 1 :].partition(":")[0]
            raise UnknownNameError("adapter", one_line(adapter), self.adapters)
        return None

    def bare(self, name: object) -> tuple[str, str] | None:
        """Return adapter and "" of the name of the model without a strategy; None if the name is another one."""
        return next(((adapter, "") for adapter in ("", *self.adapters) if name == self.of(adapter)), None)

    def _strategy(self, name: str) -> str:
        asked = sorted(name.split("+"))
        for strategy in self.strategies:
            if name == strategy or asked == sorted(strategy.split("+")):
                return strategy
        raise UnknownNameError("strategy", one_line(name), self.strategies)

    def nearest(self, name: str) -> str | None:
        """Return the name that is most like one that does not exist; None if none is."""
        if not name.startswith((f"{self.model}@", f"{self.model}:")):
            return nearest(name, list(map(self.of, ("", *self.adapters))))
        asked, _, named = name[len(self.model) :].removeprefix("@").partition(":")
        adapter, strategy = _nearest(asked, self.adapters), _nearest(named, self.strategies)
        return None if adapter is None or strategy is None else self.of(adapter, strategy)


def _nearest(name: str, known: tuple[str, ...]) -> str | None:
    return name if name in ("", *known) else nearest(name, known)
