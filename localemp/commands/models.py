"""`localemp models check`: asks services which of the hosted models they have, and until when."""

from asyncio import gather
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from urllib.parse import quote

from localemp.engines.openai.connection import Connection
from localemp.engines.openai.failures import explain
from localemp.engines.openai.models import Models, read_model, read_models
from localemp.engines.openai.target import OPENAI_URL, Target, shown_url
from localemp.errors import LocalempError, OptionError
from localemp.models.profiles import Profile, list_profiles, load_profile, served_profile
from localemp.protocol.errors import ResponseError, ServerError
from localemp.utils.asynchronous import run_here
from localemp.utils.progress import OnProgress, Progress, silent

_TIMEOUT = 30.0  # seconds for one answer


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """What a service says of a model.

    Attributes:
        name: The name for `--model`.
        model: Its name on the server.
        service: The service's URL.
        found: Whether the service has it; None if that is unknown.
        shut_down: When it is shut down: the service's date, else the profile's; None if none is announced.
        profile_date: The profile's date.
        successor: What the profile names to use instead.
        why: Why it is unknown; empty otherwise.
    """

    name: str
    model: str
    service: str
    found: bool | None
    shut_down: date | None = None
    profile_date: date | None = None
    successor: str | None = None
    why: str = ""


def check_models(
    names: Iterable[str] = (), *, base_url: str | None = None, on_progress: OnProgress = silent
) -> list[CheckedModel]:
    """Ask each service for its list of models, and say which of ours exist.

    A service is asked once for its list, and then for each model that an incomplete list lacks. One that cannot be
    asked is no error: `found` is None, and `why` says what is wrong.

    Args:
        names: Models, as `--model` takes them; by default all hosted ones that ship with localemp.
        base_url: The server to ask about all of them; None for that of each model's profile.
        on_progress: Called after each service.

    Raises:
        OptionError: A model runs on this machine, or the URL is invalid.
        LocalempError: There is no such model.
    """
    if base_url is not None:
        shown_url(base_url)
    profiles = _profiles(list(dict.fromkeys(names)), base_url)
    return run_here(_check(profiles, base_url, on_progress), "await it in a thread of its own")


def _profiles(names: Sequence[str], base_url: str | None) -> list[Profile]:
    if base_url is not None:
        ours = [each.name for each in list_profiles() if each.engine == "openai" and not each.base_url]
        return [served_profile(name) for name in names or ours]
    if not names:
        return [each for each in list_profiles() if each.engine == "openai"]
    profiles = [load_profile(name, "chat") for name in names]
    for profile in profiles:
        if profile.engine != "openai":
            raise OptionError(
                f"{profile.name} is not a model of a service", "`localemp models show` says where its weights are"
            )
    return profiles


async def _check(profiles: Sequence[Profile], base_url: str | None, on_progress: OnProgress) -> list[CheckedModel]:
    services: dict[str | None, list[Profile]] = {}
    for profile in profiles:
        services.setdefault(profile.base_url if base_url is None else base_url, []).append(profile)
    done = 0

    async def ask(url: str | None, asked: Sequence[Profile]) -> list[CheckedModel]:
        nonlocal done
        answers = await _ask(url, asked, named=base_url is not None)
        done += 1
        on_progress(Progress("Asking services", done, len(services), "services"))
        return answers

    on_progress(Progress("Asking services", 0, len(services), "services"))
    found = await gather(*(ask(url, asked) for url, asked in services.items()))
    of_name = {each.name: each for answers in found for each in answers}
    return [of_name[profile.name] for profile in profiles]


async def _ask(url: str | None, profiles: Sequence[Profile], *, named: bool) -> list[CheckedModel]:
    """Ask one service about its models."""
    try:
        target = Target.resolve("", url, None, named=named)
        target.check_key()
    except LocalempError as error:
        return [_answer(profile, url or OPENAI_URL, None, why=error.message) for profile in profiles]
    if target.server.lists == "nothing":
        why = "it lists its models only to clients of its own API"
        return [_answer(profile, target.url, None, why=why) for profile in profiles]
    connection = Connection(target, _TIMEOUT)
    try:
        models = await connection.get("/models", read_models)
        return list(await gather(*(_find(profile, models, connection, target) for profile in profiles)))
    except ResponseError as error:
        return [_answer(profile, target.url, None, why=_why(error, target)) for profile in profiles]
    finally:
        await connection.close()


async def _find(profile: Profile, models: Models, connection: Connection, target: Target) -> CheckedModel:
    """Look for a model in a service's list, and ask for it by name if the list may be incomplete."""
    name = profile.model or profile.name
    found, end = models.has(name), models.shut_down.get(models.listed_as(name))
    if found or (found is False and target.server.lists_models):
        return _answer(profile, target.url, found, end)
    if not target.server.lists_models:
        return _answer(profile, target.url, None, why="its list does not have the names that requests use")
    try:
        return _answer(profile, target.url, True, await connection.get(f"/models/{quote(name)}", read_model))
    except ServerError as error:
        if error.status == 404:
            return _answer(profile, target.url, False)
        return _answer(profile, target.url, None, why=_why(error, target))
    except ResponseError as error:
        return _answer(profile, target.url, None, why=_why(error, target))


def _answer(
    profile: Profile, service: str, found: bool | None, shut_down: date | None = None, why: str = ""
) -> CheckedModel:
    name = profile.model or profile.name
    ours = profile.shut_down
    return CheckedModel(profile.name, name, service, found, shut_down or ours, ours, profile.successor, why)


def _why(error: ResponseError, target: Target) -> str:
    if isinstance(error, ServerError) and error.status == 403:
        return f"the key in {target.key_variable} may not list models: {error.message}"
    return explain(error, target, 0, None, known=False, answered=False).message
