"""`localemp serve`: an OpenAI endpoint where every strategy is a model name."""

import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from localemp.cli.options import config_of, serve_options
from localemp.cli.registered import StrategyCommand, check_typed_heeded
from localemp.cli.types import NAME
from localemp.serving.api_key import KEY_VARIABLE, keys_here
from localemp.utils.progress import Progress

if TYPE_CHECKING:
    from localemp.cli.display import Display
    from localemp.models.adapters import Adapter
    from localemp.pipeline.pipeline import Pipeline
    from localemp.serving.settings import ServeSettings


@click.command(cls=StrategyCommand, of_data=False)
@serve_options
@click.option(
    "--strategies",
    metavar="A,B",
    help="Strategies to offer, such as two-stage,similar+./mine.toml; by default the paper's, and those with --flow.",
)
@click.option(
    "--flow",
    "flows",
    type=NAME,
    multiple=True,
    metavar="PATH",
    help="A flow of your own to offer: mine.toml as MODEL:mine, and without --strategies also joined with the paper's "
    "lookups, as MODEL:similar+mine; may be repeated.",
)
@click.option(
    "--adapter",
    "adapters",
    type=NAME,
    multiple=True,
    metavar="[NAME=]PATH|ID",
    help="A LoRA adapter (PEFT), served as MODEL@NAME and MODEL@NAME:STRATEGY; a folder or a Hugging Face id; may be "
    "repeated.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all networks.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option(
    "--api-key",
    "api_keys",
    multiple=True,
    metavar="KEY",
    help=f"Key that clients must send; may be repeated. Safer in {KEY_VARIABLE} (separated by commas), where lists of "
    "processes do not show it.",
)
@click.option(
    "--upstream",
    "upstreams",
    multiple=True,
    metavar="URL",
    help="An OpenAI-compatible server that runs the model; repeated, the least busy one is asked.",
)
@click.option(
    "--allow-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="A site whose pages may use this server, such as https://chat.example.org; may be repeated, * is all.",
)
@click.option(
    "--drain",
    type=click.IntRange(0, 86400),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="Time that running answers get to finish when the server stops.",
)
@click.option("--no-ui", is_flag=True, help="Do not serve the page at /.")
@click.argument("engine_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- VLLM OPTIONS]")
def serve(
    strategies: str | None,
    flows: tuple[str, ...],
    adapters: tuple[str, ...],
    host: str,
    port: int,
    api_keys: tuple[str, ...],
    upstreams: tuple[str, ...],
    origins: tuple[str, ...],
    drain: int,
    no_ui: bool,
    engine_options: tuple[str, ...],
    **options: Any,
) -> None:
    """Serve a model with an OpenAI API: the plain model as NAME, and strategies as NAME:STRATEGY.

    With an adapter they are NAME@ADAPTER and NAME@ADAPTER:STRATEGY.

    Options after -- go to vLLM unchanged, such as -- --tensor-parallel-size 2. Press Ctrl-C to stop.
    """
    from localemp.cli.display import Display
    from localemp.engines.vllm.versions import require_vllm
    from localemp.errors import OptionError
    from localemp.pipeline.pipeline import Pipeline
    from localemp.serving.flows import offered_strategies
    from localemp.serving.settings import ServeSettings
    from localemp.serving.vllm.command import check_environment, check_options, check_port, prepare
    from localemp.web.addresses import is_loopback

    offered, texts = offered_strategies(strategies, flows)
    check_typed_heeded(click.get_current_context(), offered)
    keys, sites = _keys(api_keys), _sites(origins)
    if not all(url.strip() for url in upstreams):
        raise OptionError("--upstream is empty", "name a server like http://localhost:8000/v1")
    config = config_of({**options, "base_url": upstreams[0] if upstreams else None})
    # Sent by service managers to stop; `with` blocks then clean up.
    signal.signal(signal.SIGTERM, _terminated)
    with Display() as display:
        pipeline = Pipeline(config, on_progress=display.on_progress)
        hosted = pipeline.profile.hosted
        if hosted and engine_options:
            raise OptionError(f"{' '.join(engine_options)}: options after -- are for vLLM, which does not run here")
        if not hosted:
            require_vllm()
            check_environment(os.environ, adapters)
        check_options(engine_options)
        check_port(host, port)
        pipeline.note_end()
        if not keys and not is_loopback(host):
            display.say(f"warning: without --api-key everyone who reaches {host}:{port} can use it")
        found = prepare(pipeline, offered, adapters)
        settings = ServeSettings.of(
            pipeline.profile.name,
            config,
            strategies=offered,
            flows=texts,
            adapters=found,
            api_keys=keys,
            ui=not no_ui,
            host=host,
            origins=sites,
        )
        if hosted:
            _serve_hosted(pipeline, settings, port, upstreams, drain, display)
        else:
            _serve_here(pipeline, settings, found, port, engine_options, drain, display)


def _serve_here(
    pipeline: "Pipeline",
    settings: "ServeSettings",
    adapters: "Sequence[Adapter]",
    port: int,
    options: tuple[str, ...],
    drain: int,
    display: "Display",
) -> None:
    """Run vLLM's server as a child process until either is stopped."""
    import time

    from localemp.engines.vllm.determinism import determinism
    from localemp.serving.running import RunningServer, announced
    from localemp.serving.vllm.command import RUST, url_of, vllm_command
    from localemp.serving.vllm.launch import Server
    from localemp.serving.vllm.options import as_options, read_options

    url, typed = url_of(settings.host, port, options), options
    # vLLM would require this key itself; `_keys` has read it.
    # vLLM reads a number from the last one, and would stop at `false`.
    env: dict[str, str | None] = {**settings.to_env(), "VLLM_API_KEY": None, KEY_VARIABLE: None, RUST: None}
    if pipeline.config.deterministic:
        found = determinism()
        display.say(found.note)
        found.check(read_options(options), lambda name, value: " ".join(as_options({name: value})))
        options, env = (*as_options(found.engine_args), *options), env | dict(found.env)
    key = settings.api_keys[0] if settings.api_keys else None
    began = time.monotonic()
    command = vllm_command(pipeline, settings.host, port, options, drain, adapters)
    server = Server(command, url, env=env, key=key, drain=drain)
    display.say(f"vLLM's log: {server.log}")
    with server:
        try:
            what = f"Starting {settings.model}"
            with display.clock(what) as tell:
                names = server.wait_until_ready(lambda progress: tell(Progress(f"{what}: {progress.task}")))
            how = f"after {time.monotonic() - began:.0f} s"
            with announced(RunningServer.of(settings, pipeline.profile, url, typed)):
                click.echo(_welcome(url, names, settings, how, KEY_VARIABLE if settings.api_keys else None))
                server.wait()
        except (KeyboardInterrupt, SystemExit):
            display.say("stopping; Ctrl-C once more kills")
            raise


def _serve_hosted(
    pipeline: "Pipeline",
    settings: "ServeSettings",
    port: int,
    upstreams: tuple[str, ...],
    drain: int,
    display: "Display",
) -> None:
    """Serve the strategies in this process, in front of other servers."""
    from localemp.engines.openai.target import Target
    from localemp.errors import FatalEngineError, OptionError
    from localemp.serving.proxy import app
    from localemp.serving.vllm.command import url_of

    profile = pipeline.profile
    model = profile.model or profile.name
    named = bool(upstreams)
    found = [Target.resolve(model, url, None, named=named) for url in upstreams or (profile.base_url,)]
    ours, theirs = found[0].key, found[0].key_variable
    if any(target.key != ours for target in found):
        raise OptionError("the upstreams have different keys", "give servers of one service: all get the same key")
    callers = not ours and any(target.server.needs_key for target in found)
    if callers and settings.api_keys:
        raise FatalEngineError(
            f"{found[0].url} needs a key, and {theirs} is not set",
            "callers send this server's keys, which open nothing there",
        )
    variable = theirs if callers else None
    if settings.api_keys:
        variable = KEY_VARIABLE
    names = list(settings.names)
    what = f"before {', '.join(target.url for target in found)}"
    display.say(f"Starting {settings.model} {what} ...")
    app.run(
        settings,
        [target.address for target in found],
        ours or None,
        host=settings.host,
        port=port,
        on_ready=lambda: click.echo(_welcome(url_of(settings.host, port), names, settings, what, variable)),
        drain=drain,
    )


def _welcome(url: str, names: list[str], settings: "ServeSettings", how: str, variable: str | None) -> str:
    """Print the address, the models and an example; `variable` holds a client's key, if one is needed."""
    model, ours = settings.model, settings.names
    offered = [name for name in settings.strategies if ours.of("", name) in names]
    adapted = [ours.of(adapter) for adapter in settings.adapters]
    others = [name for name in names if name not in set(ours)]
    example = next((ours.of("", name) for name in ("two-stage", *offered) if name in offered), model)
    auth = f' -H "Authorization: Bearer ${variable}"' if variable else ""
    key = f'os.environ["{variable}"]' if variable else '"none"'
    lines = [f"ready {how}: {url}/v1", "", f"  {model}: the model as it is"]
    if adapted:
        lines += [f"  {', '.join(adapted)}: with an adapter"]
    if offered:
        both = f"{model}:STRATEGY or {model}@ADAPTER:STRATEGY" if adapted else f"{model}:STRATEGY"
        lines += [f"  {both}, with one of: {', '.join(offered)}"]
    lines += [f"  {name}" for name in others]
    if settings.ui:
        lines += [f"  {url}/ in a browser: a page to talk to them"]
    lines += ["", f"Try it, with a key in {variable}:" if variable else "Try it:", ""]
    lines += [
        f'curl {url}/v1/chat/completions{auth} -H "Content-Type: application/json" '
        f"""-d '{{"model": "{example}", "messages": [{{"role": "user", "content": "I lost my job today."}}]}}'""",
        "",
        "import os, openai" if variable else "import openai",
        f'client = openai.OpenAI(base_url="{url}/v1", api_key={key})',
        'messages = [{"role": "user", "content": "I lost my job today."}]',
        f'answer = client.chat.completions.create(model="{example}", messages=messages)',
        "print(answer.choices[0].message.content)",
        "",
        "Ctrl-C stops.",
    ]
    return "\n".join(lines)


def _keys(given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys of the command line, else of the environment, including those set for vLLM."""
    from localemp.errors import OptionError

    found = given or tuple(keys_here())
    keys = tuple(dict.fromkeys(key.strip() for key in (*found, os.environ.get("VLLM_API_KEY", "")) if key.strip()))
    if given and not all(key.strip() for key in given):
        raise OptionError("--api-key is empty", "omit it to serve everyone")
    if not all(key.isascii() and key.isprintable() for key in keys):
        raise OptionError("a key holds characters that no header can carry", "letters, digits and signs only")
    return keys


def _sites(given: tuple[str, ...]) -> tuple[str, ...]:
    """Return origins as browsers write them."""
    from localemp.errors import OptionError
    from localemp.web.addresses import normalize_origin

    sites = []
    for text in given:
        try:
            sites.append(normalize_origin(text))
        except ValueError as error:
            raise OptionError(f"--allow-origin {text!r}: {error}", "for example https://chat.example.org") from error
    return tuple(dict.fromkeys(sites))


def _terminated(*_: object) -> NoReturn:
    sys.exit(0)
