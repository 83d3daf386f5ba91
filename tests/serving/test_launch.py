"""The server process, with a small real server in vLLM's place."""

import json
import signal
import socket
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from patience import patience
from ports import free_port
from processes import command_line

from localemp.errors import FatalEngineError, OptionError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.serving.settings import VARIABLE, ServeSettings
from localemp.serving.vllm.command import check_environment, check_options, check_port, prepare, url_of, vllm_command
from localemp.serving.vllm.launch import Server

FAKE = Path(__file__).with_name("fake_vllm.py")


def fakes(parent):
    """The stand-ins that a process has started."""
    return [child for child in parent.children() if str(FAKE) in command_line(child)]


@pytest.fixture
def make(tmp_path):
    """Makes servers that do what they are told, and stops them in the end."""
    made = []

    def make(env=None, key=None, **told):
        port = free_port()
        env = {"FAKE_VLLM": json.dumps(told), **(env or {})}
        made.append(
            Server(
                [sys.executable, str(FAKE), str(port)],
                url_of("127.0.0.1", port),
                env=env,
                key=key,
                log=tmp_path / "log",
            )
        )
        return made[-1]

    yield make
    for server in made:
        server.stop()


STARTING = [
    "INFO [model.py:733] Resolved architecture: LlamaForCausalLM",
    "(Worker pid=1) INFO [cpu_model_runner.py:68] Starting to load model /somewhere...",
    "Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]",
    "(Worker pid=1) INFO [default_loader.py:501] Loading weights took 0.80 seconds",
    "(EngineCore pid=2) INFO [kv_cache_utils.py:2327] CPU KV cache size: 186,368 tokens",
    "(EngineCore pid=2) INFO [core.py:402] init engine (profile, create kv cache, warmup model) took 7.65 s",
    "(APIServer pid=3) localemp: embedding 256 of 512 dialogues",
]


def test_a_server_tells_what_it_is_doing_until_it_is_ready(make):
    heard = []
    with make(says=STARTING, pause=0.5) as server:
        assert server.wait_until_ready(lambda progress: heard.append(progress.task)) == ["tiny"]
    known = [
        "importing vLLM",
        "starting the engine",
        "loading the weights",
        "loading the weights, 1 of 2 files",
        "making room for the KV cache",
        "warming up",
        "starting the server",
        "embedding 256 of 512 dialogues",
    ]
    told = list(dict.fromkeys(heard))
    # The log is looked at now and then: on a busy machine a step may begin and end between two looks.
    assert told == [step for step in known if step in told] and len(told) >= 3


TOO_LITTLE_KV = (
    "(EngineCore pid=9) ValueError: To serve at least one request with the models's max seq len (8192), (0.18 GiB KV "
    "cache is needed, which is larger than the available KV cache memory (0.02 GiB). Based on the available memory, ..."
)
TOO_LITTLE_RAM = (
    "ValueError: Available memory on node 0 (2.1/22.84 GiB) on startup is less than desired CPU memory utilization or "
    "requested memory for kv (4.0 GiB)."
)
KILLED = (
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': -9}"
)
INVALID = [
    "(APIServer pid=9) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
    "(APIServer pid=9)   Value error, User-specified max_model_len (99999) is too long. [type=value_error]",
    "(APIServer pid=9)     For further information visit https://errors.pydantic.dev/2/v/value_error",
]
NO_GPU_MEMORY = ["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.", "RuntimeError: Engine failed."]


LOGGED = [
    "(APIServer pid=9) WARNING [x.py:1] A low ulimit can cause errors like `OSError: [Errno 24] Too many files`.",
    "(EngineCore pid=9) ERROR 11-22 23:23:41 [core.py:1] EngineCore failed to start.",
    "(EngineCore pid=9) ERROR 11-22 23:23:41 [core.py:1] Traceback (most recent call last):",
    "(EngineCore pid=9) ERROR 11-22 23:23:41 [core.py:1] vllm.x.VLLMValidationError: no kernel for this quantization",
    "(APIServer pid=9) RuntimeError: Engine core initialization failed. See root cause above.",
]


@pytest.mark.parametrize(
    ("says", "code", "reason", "hint"),
    [
        (LOGGED, 1, "could not start: no kernel for this quantization", ""),
        (LOGGED[:2], 1, "could not start: EngineCore failed to start.", ""),
        (LOGGED[:1], 1, "could not start: it ended with exit code 1", ""),
        (
            [TOO_LITTLE_KV],
            1,
            "a context of 8192 tokens needs 0.18 GiB, 0.02 GiB are available",
            "-- --max-model-len below",
        ),
        ([TOO_LITTLE_RAM], 1, "4.0 GiB requested, 2.1 of 22.84 GiB free", "-- --kv-cache-memory-bytes"),
        ([KILLED], 1, "its engine process was killed, as Linux does when memory runs out", "close other programs"),
        (INVALID, 1, "could not start: User-specified max_model_len (99999) is too long.", ""),
        (NO_GPU_MEMORY, 1, "could not start: CUDA out of memory. Tried to allocate 2 GiB.", ""),
        ([], 3, "it ended with exit code 3", ""),
        ([], -9, "it was killed, as Linux does when memory runs out", ""),
        ([], -11, "it was ended by SIGSEGV", ""),
    ],
)
def test_a_server_that_dies_while_it_starts_says_why(make, says, code, reason, hint):
    with make(says=says, exits=code) as server, pytest.raises(FatalEngineError) as caught:
        server.wait_until_ready()
    assert reason in caught.value.message
    assert hint in caught.value.hint
    assert f"its log: {server.log}" in caught.value.hint


def test_options_that_vllm_refuses_are_a_mistake_of_the_person(make):
    says = ["usage: vllm [-h] {serve} ...", "vllm: error: unrecognized arguments: --warp-speed 9"]
    with make(says=says, exits=2) as server, pytest.raises(OptionError) as caught:
        server.wait_until_ready()
    assert caught.value.message == "vLLM refuses these options: unrecognized arguments: --warp-speed 9"


def test_a_server_that_dies_later_does_not_blame_what_it_overcame(make):
    later = ["Traceback (most recent call last):", "RuntimeError: the GPU fell off the bus"]
    with make(says=["ImportError: not needed"], says_later=later, exits_later=1) as server:
        server.wait_until_ready()
        with pytest.raises(FatalEngineError, match="vLLM's server died: the GPU fell off the bus"):
            server.wait()


def test_what_an_earlier_server_left_in_the_log_explains_nothing(make):
    server = make(says=["RuntimeError: of today"], exits=1)
    server.log.write_text("RuntimeError: of yesterday\n")
    with server, pytest.raises(FatalEngineError, match="of today"):
        server.wait_until_ready()


def test_stop_leaves_nothing_even_of_workers_that_do_not_listen(make):
    with make(worker=True) as server:
        server.wait_until_ready()
        (fake,) = fakes(psutil.Process())
        started = [fake, *fake.children(recursive=True)]
        assert len(started) >= 3
    _, alive = psutil.wait_procs(started, timeout=patience(10))
    assert not alive


def test_a_killed_parent_leaves_nothing_behind(tmp_path):
    port = free_port()
    program = f"""
        from pathlib import Path
        from localemp.serving.vllm.launch import Server
        command = [{sys.executable!r}, {str(FAKE)!r}, "{port}"]
        with Server(command, "http://127.0.0.1:{port}", log=Path("log")) as server:
            print(server.wait_until_ready(), flush=True)
            server.wait()
        """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout.readline() == "['tiny']\n"
    started = fakes(psutil.Process(parent.pid))
    assert started
    parent.kill()
    parent.communicate()
    _, alive = psutil.wait_procs(started, timeout=patience(10))
    assert not alive


def test_a_key_is_sent_and_lies_in_no_argument_and_no_log(make):
    settings = ServeSettings(model="tiny", api_keys=("sk-secret",))
    with make(settings.to_env(), "sk-secret") as server:
        assert server.wait_until_ready() == ["tiny"]
        arguments = [command_line(child) for child in psutil.Process().children(recursive=True)]
    assert "sk-secret" not in str(arguments) + server.log.read_text() + repr(settings)


def test_a_taken_port_and_a_strange_host_are_found_before_anything_starts():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OptionError, match=f"port {port}: address already in use") as caught:
            check_port("127.0.0.1", port)
        assert f"--port {port + 1}" in caught.value.hint
        with pytest.raises(OptionError, match="already in use"):
            check_port("0.0.0.0", port)
    check_port("127.0.0.1", port)
    with pytest.raises(OptionError, match="cannot assign requested address"):
        check_port("203.0.113.7", port)


@pytest.mark.parametrize(
    "option", ["--port", "--host=0.0.0.0", "--served_model_name", "--api-key=x", "--uds", "--grpc_port", "smollm2"]
)
def test_options_of_localemp_do_not_go_to_vllm(option):
    with pytest.raises(OptionError):
        check_options([option, "9000"])
    check_options(["--tensor-parallel-size", "2", "--data-parallel-size=2", "--api_server_count", "2"])


@pytest.mark.parametrize("value", ["1", "2", "true"])
def test_the_rust_front_end_is_refused(value):
    with pytest.raises(OptionError, match=r"VLLM_USE_RUST_FRONTEND is set: .* neither keys nor strategies") as caught:
        check_environment({"VLLM_USE_RUST_FRONTEND": value})
    assert "localemp serve --upstream URL" in caught.value.hint


@pytest.mark.parametrize("environment", [{}, *({"VLLM_USE_RUST_FRONTEND": value} for value in ("", "0", "False"))])
def test_the_front_end_in_python_is_not_refused(environment):
    check_environment(environment)


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:80"), ("0.0.0.0", "http://127.0.0.1:80"), ("::", "http://[::1]:80")],
)
def test_the_url_is_one_that_a_client_here_can_use(host, url):
    assert url_of(host, 80) == url
    assert url_of(host, 80, ["--ssl-certfile=x"]).startswith("https://")


def test_the_command_names_the_model_and_the_persons_options_come_last(tiny_folder):
    command = vllm_command(
        Pipeline(RunConfig(model=str(tiny_folder), seed=7)), "127.0.0.1", 8000, ["--max-model-len", "512"]
    )
    assert command[1:4] == ["-m", "localemp.serving.vllm.main", str(tiny_folder)]
    after = dict(pairwise(command))
    assert (after["--served-model-name"], after["--port"], after["--seed"]) == ("tiny", "8000", "7")
    assert after["--middleware"] == "localemp.serving.middleware.StrategyMiddleware"
    assert command[command.index("--max-model-len") + 1] == "2048", "the model's own, where it is shorter than ours"
    assert command[-2:] == ["--max-model-len", "512"]
    assert "--chat-template" not in command


@pytest.mark.parametrize(("begins", "prompt"), [(True, "<s>One.\n\nTwo."), (False, "One.\n\nTwo.")])
def test_a_model_without_a_chat_template_gets_the_texts_alone(tiny_folder, begins, prompt):
    from tokenizers import Tokenizer, models, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<s>": 0, "<unk>": 1}, unk_token="<unk>"))
    if begins:
        words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", unk_token="<unk>")
    tokenizer.save_pretrained(tiny_folder)
    (tiny_folder / "chat_template.jinja").unlink()
    command = vllm_command(Pipeline(RunConfig(model=str(tiny_folder))), "127.0.0.1", 8000)
    template = command[command.index("--chat-template") + 1]
    messages = [{"role": "user", "content": "One."}, {"role": "assistant", "content": "Two."}]
    assert tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False) == prompt


def test_a_models_template_settings_reach_vllm(tiny_folder, tmp_path):
    profile = tmp_path / "thinker.toml"
    profile.write_text(
        'kind = "chat"\nengine = "vllm"\npath = "tiny"\ncontext_length = 9000\n'
        "[chat_template_kwargs]\nenable_thinking = false\n"
    )
    command = vllm_command(Pipeline(RunConfig(model=str(profile))), "127.0.0.1", 8000)
    after = dict(pairwise(command))
    assert json.loads(after["--default-chat-template-kwargs"]) == {"enable_thinking": False}
    assert after["--max-model-len"] == "4096"


def test_a_model_that_thinks_is_served_with_its_parser_and_room(tiny_folder, tmp_path):
    profile = tmp_path / "thinker.toml"
    profile.write_text(
        'kind = "chat"\nengine = "vllm"\npath = "tiny"\ncontext_length = 9000\n'
        '[thinking]\nswitch = "deep"\nparser = "qwen3"\nstart = "<a>"\nend = "</a>"\n'
    )
    config = RunConfig(model=str(profile), thinking="on", thinking_budget=100)
    after = dict(pairwise(vllm_command(Pipeline(config), "127.0.0.1", 8000)))
    assert (after["--reasoning-parser"], after["--max-model-len"]) == ("qwen3", "4196")
    assert json.loads(after["--reasoning-config"]) == {"reasoning_start_str": "<a>", "reasoning_end_str": "</a>"}
    assert json.loads(after["--default-chat-template-kwargs"]) == {"deep": True}


@pytest.mark.parametrize(
    ("config", "strategies"),
    [
        ({"encoder": "no-such-encoder"}, ["similar"]),
        ({"comet": "no-such-comet"}, ["knowledge"]),
        ({"variant": "no-such-variant"}, ["zero-shot"]),
        ({"pool": "no-such-pool"}, ["few-shot"]),
        ({"shots": 0}, ["similar+two-stage"]),
    ],
)
def test_mistakes_show_before_any_weights_are_looked_for(config, strategies):
    fetched = []
    pipeline = Pipeline(RunConfig(**config), on_progress=fetched.append)
    with pytest.raises(Exception) as caught:
        prepare(pipeline, strategies)
    assert caught.value.exit_code == 2, caught.value
    assert not fetched


def test_settings_come_back_from_the_environment_as_they_went():
    config = RunConfig(model="qwen3", shot_indices=(3, 1), pool="bundled", knowledge=Path("k.jsonl"), list_labels=True)
    settings = ServeSettings.of("qwen3", config, strategies=["two-stage"], api_keys=["sk-1", "sk-2"], ui=False)
    again = ServeSettings.from_env(settings.to_env())
    assert again.to_config() == config
    assert (again.model, again.strategies, again.api_keys, again.ui) == (
        "qwen3",
        ("two-stage",),
        ("sk-1", "sk-2"),
        False,
    )


def test_settings_that_are_not_there_or_broken_are_an_error_that_shows_no_key():
    with pytest.raises(OptionError, match="is not set"):
        ServeSettings.from_env({})
    with pytest.raises(OptionError) as caught:
        ServeSettings.from_env({VARIABLE: '{"model": 3, "api_keys": ["sk-secret"], "more": 1}'})
    assert caught.value.message == f"{VARIABLE} cannot be read: model, more"


def test_an_interrupt_while_it_is_stopped_kills_it(make):
    server = make(stubborn=True)
    server.start()
    server.wait_until_ready()
    (fake,) = fakes(psutil.Process())
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            server.stop()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < patience(5)
    assert not fake.is_running()
