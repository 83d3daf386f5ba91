"""What `localemp models list` and `show` say about a profile."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from localemp.utils.formatting import size
from localemp.utils.text import for_terminal

if TYPE_CHECKING:
    from rich.table import Table

    from localemp.commands.models import CheckedModel
    from localemp.models.price import Price
    from localemp.models.profiles import Profile


def details(profile: "Profile") -> dict[str, Any]:
    """Return a profile as JSON values, with where its weights are on this machine."""
    from localemp.models.unused_keys import CHAT_ONLY
    from localemp.models.weights import find
    from localemp.utils.redaction import redact_settings

    told = redact_settings(profile.model_dump(mode="json"))
    if profile.kind == "chat":
        # Those that every run has, and what the profile sets.
        sampling, own = profile.default_sampling, profile.sampling.model_dump(mode="json", exclude_none=True)
        told["sampling"] = {name: getattr(sampling, name) for name in ("max_tokens", "temperature", "top_p")} | own
    else:
        told = {key: value for key, value in told.items() if key not in CHAT_ONLY}
    place = None if profile.hosted else find(profile)
    here = None if place is None else {"folder": str(place.folder), "source": place.source, "bytes": place.bytes}
    return {**told, "weights": here}


def rows(profile: "Profile") -> list[tuple[str, str]]:
    """Return the rows of `models show`: keys and values of a profile that are set, in words."""
    told = details(profile)
    told["weights"] = _where_exactly(profile)
    if profile.hosted:
        told["price"] = "unpriced" if profile.price is None else _price(profile.price)
        told["takes"] = {key: ", ".join(values) or "none of it" for key, values in profile.takes if values is not None}
    if profile.context_length:
        told["context_length"] = f"{profile.context_length:,} tokens"
    if profile.thinking and profile.thinking.switch is None:
        told["thinking"] = {key: value for key, value in told["thinking"].items() if key not in ("on", "off")}
    if profile.shut_down:
        told["shut_down"] = profile.notice
    return [(key.replace("_", " "), text) for key, value in told.items() if _is_set(value) and (text := _plain(value))]


def tables(profiles: "Sequence[Profile]") -> "list[Table]":
    """Return the tables of `models list`: chat models that run here, hosted ones, and the models for lookups."""
    from localemp.engines.openai.target import OPENAI_URL

    chat = [profile for profile in profiles if profile.kind == "chat"]
    return [
        _table(
            "Chat models that run here",
            [profile for profile in chat if not profile.hosted],
            {"weights from": _source, "size": _size, "here": _here},
        ),
        _table(
            "Chat models of a service",
            sorted(
                (profile for profile in chat if profile.hosted),
                key=lambda profile: (profile.is_off, profile.shut_down is not None, profile.name),
            ),
            {
                "service": lambda profile: _service(profile.base_url or OPENAI_URL),
                "price": _short_price,
                "end, and then": _end,
            },
        ),
        _table(
            "Models for lookups: encoders and COMET",
            [profile for profile in profiles if profile.kind != "chat"],
            {
                "weights from": _source,
                "size": _size,
                "here": _here,
            },
        ),
    ]


def checked_table(checked: "Sequence[CheckedModel]") -> "Table":
    """Return the table of `models check`: of each model that a service was asked about, whether it exists."""
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for header in ("model", "service", "state", "end"):
        table.add_column(header, no_wrap=header == "model")
    for each in checked:
        ended = _end_of(each.shut_down, each.successor)
        if each.shut_down and each.profile_date and each.shut_down != each.profile_date:
            ended += f" (its profile says {each.profile_date})"
        state = "exists" if each.found else "missing"
        table.add_row(each.name, _service(each.service), state, ended)
    return table


def not_asked(checked: "Sequence[CheckedModel]") -> list[str]:
    """Return a line for each service that could not be asked, with the reason."""
    models: dict[str, list[str]] = {}
    for each in checked:
        if each.found is None:
            why = each.why if each.service in each.why else f"{each.service}: {each.why}"
            models.setdefault(why, []).append(each.name)
    return [for_terminal(f"not checked: {_some(names)}: {why}") for why, names in models.items()]


def _some(names: Sequence[str]) -> str:
    shown = names if len(names) <= 4 else names[:3]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def _table(title: str, profiles: "Sequence[Profile]", columns: "dict[str, Callable[[Profile], str]]") -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="bold", title=title, title_justify="left")
    table.add_column("model", no_wrap=True)
    for header in columns:
        table.add_column(header, overflow="fold", justify="right" if header in ("price", "size") else "left")
    for profile in profiles:
        table.add_row(profile.name, *(tell(profile) for tell in columns.values()))
    return table


def _source(profile: "Profile") -> str:
    """Return where the weights come from: an id on the hub, packages, or a model and an adapter."""
    if profile.merged:
        return f"{profile.merged.base} + {profile.merged.adapter.name}"
    if profile.path:
        return f"{profile.path.parent.name}/{profile.path.name}"
    if profile.hub:
        return profile.hub.id
    return ", ".join(profile.package.requirements) if profile.package else ""


def _size(profile: "Profile") -> str:
    """Return how large the weights are: here, or where they come from."""
    from localemp.models.weights import find

    if place := find(profile):
        return size(place.bytes)
    known = [source.bytes for source in (profile.hub, profile.package) if source and source.bytes]
    return size(known[0]) if known else "unknown"


def _here(profile: "Profile") -> str:
    from localemp.models.weights import find

    return "yes" if find(profile) else "no"


def _service(url: str) -> str:
    """Return the name of the service at a URL; of an unknown one, its address."""
    from localemp.engines.openai.servers import server_at

    return server_at(url).name or for_terminal(urlsplit(url).netloc)


def _short_price(profile: "Profile") -> str:
    if profile.is_off:
        return ""
    return "unpriced" if profile.price is None else f"${profile.price.prompt:g} / ${profile.price.completion:g}"


def _end(profile: "Profile") -> str:
    """Return when the service ends the model and what it names instead, as short as it can be said."""
    if profile.shut_down is None:
        return ""
    ended = "off " if profile.is_off else ""
    return f"{ended}{profile.shut_down}" + (f", {profile.successor}" if profile.successor else "")


def _end_of(shut_down: date | None, successor: str | None) -> str:
    if shut_down is None:
        return ""
    if shut_down <= date.today():
        return f"shut down {shut_down}" + (f", use {successor}" if successor else "")
    return f"until {shut_down}" + (f", then {successor}" if successor else "")


def _where_exactly(profile: "Profile") -> str:
    from localemp.models.weights import find

    if profile.hosted:
        return "hosted"
    if place := find(profile):
        return f"{place.folder} ({place.source}, {size(place.bytes)})"
    return f"{'not merged yet' if profile.merged else 'not downloaded'}; run `localemp models pull {profile.reference}`"


def _price(price: "Price") -> str:
    """Return the prices of all tiers, a line each."""
    from localemp.models.price import TIERS

    lines = [f"US dollars per million tokens of prompts / replies, list prices of {price.as_of}"]
    for tier in ("", *TIERS):
        if (rates := price.rates(tier)) is not None:
            cached = "" if rates.cached is None else f", {rates.cached:g} cached"
            written = "" if rates.cache_write is None else f", {rates.cache_write:g} written to the cache"
            lines.append(f"{tier or 'standard'}: {rates.prompt:g} / {rates.completion:g}{cached}{written}")
    return "\n".join(lines)


def _is_set(value: Any) -> bool:
    return value not in (None, "", {}, [])


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key} = {_plain(each)}" for key, each in value.items() if _is_set(each))
    if isinstance(value, list):
        return "\n".join(_plain(each) for each in value)
    return str(value)
