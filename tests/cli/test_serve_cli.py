"""`localemp serve` as a person runs it; a stand-in takes the place of vLLM, see `tests/serving/fake_vllm.py`."""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from patience import patience, wait_until
from ports import free_port
from processes import command_line
from tiny_adapter import write_adapter, write_model

pytestmark = pytest.mark.usefixtures("tiny_folder")
FAKE = Path(__file__).parent.parent / "serving" / "fake_vllm.py"


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def environment(tmp_path):
    """Where the stand-in is found in vLLM's place."""
    spec = importlib.util.spec_from_file_location("fake_vllm", FAKE)
    fake_vllm = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fake_vllm)
    return fake_vllm.install(tmp_path / "packages") | {"LOCALEMP_CACHE": str(tmp_path / "cache"), "COLUMNS": "160"}


@pytest.fixture
def serve(localemp, port, environment):
    """Starts `localemp serve` with a stand-in that does what it is told, and kills it in the end."""
    started = []

    def serve(*words, env=None, **told):
        process = subprocess.Popen(
            localemp.command("serve", *(() if "--model" in words else ("--model", "tiny")), "--port", port, *words),
            cwd=localemp.folder,
            env={**os.environ, **environment, "FAKE_VLLM": json.dumps(told), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield serve
    for process in started:
        process.terminate()  # it ends the stand-in, which would otherwise find out after seconds that it is alone
    for process in started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=patience(5))
        process.kill()
        process.communicate()


def welcome(process):
    """What it prints once it is ready."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "Ctrl-C stops.\n":
            return "".join(lines)
    raise AssertionError("".join(lines) + process.stderr.read())


def log_of(localemp):
    (log,) = (localemp.folder / "cache" / "logs").glob("serve-*.log")
    return log.read_text("utf-8")


def test_what_it_says_when_it_is_ready_can_be_pasted_and_works(serve, localemp, port):
    process = serve("--strategies", "zero-shot,two-stage,zero-shot")
    text = welcome(process)
    assert f"http://127.0.0.1:{port}/v1" in text.splitlines()[0]
    assert "  tiny:STRATEGY, with one of: zero-shot, two-stage\n" in text
    curl = next(line for line in text.splitlines() if line.startswith("curl "))
    answer = json.loads(subprocess.run(["sh", "-c", curl], capture_output=True, check=True).stdout)
    assert answer["choices"][0]["message"]["content"] == "tiny:two-stage heard I lost my job today."
    code = text[text.index("import openai") : text.index("Ctrl-C")]
    assert len(code.strip().splitlines()) == 5
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "tiny:two-stage heard I lost my job today.\n", done.stderr
    arguments = log_of(localemp)
    assert "'middleware': 'localemp.serving.middleware.StrategyMiddleware'" in arguments
    assert "'enforce_eager': True" in arguments, "on a processor"
    assert "'max_model_len': '2048'" in arguments


def test_adapters_are_offered_with_and_without_strategies(serve, localemp, tiny_folder, tmp_path):
    write_model(tiny_folder, max_position_embeddings=2048)
    write_adapter(tmp_path / "mine")
    write_adapter(tmp_path / "other", seed=1)
    process = serve("--strategies", "zero-shot", "--adapter", "mine", "--adapter", f"v2={tmp_path / 'other'}")
    text = welcome(process)
    assert "  tiny: the model as it is\n  tiny@mine, tiny@v2: with an adapter\n" in text
    assert "  tiny:STRATEGY or tiny@ADAPTER:STRATEGY, with one of: zero-shot\n" in text
    assert '"model": "tiny:zero-shot"' in text
    arguments = log_of(localemp)
    for told in ("'enable_lora': True", "'max_loras': '2'", "'max_lora_rank': '8'", '"name": "tiny@mine"'):
        assert told in arguments
    assert "'worker_extension_cls': 'localemp.engines.vllm.cpu_lora.FasterLoRA'" in arguments, "on a processor"


def test_an_adapter_of_another_model_is_found_before_the_engine(serve, tiny_folder, tmp_path):
    write_model(tiny_folder, hidden_size=16)
    write_adapter(tmp_path / "mine")
    _, said = (process := serve("--strategies", "zero-shot", "--adapter", "mine")).communicate(timeout=patience(60))
    assert process.returncode == 1
    assert "the model's hidden size is 16" in said
    assert not list((tmp_path / "cache").glob("logs/serve-*.log"))


def test_keys_guard_it_and_are_shown_nowhere(serve, localemp, port):
    env = {"LOCALEMP_API_KEY": "sk-one, sk-two"}
    process = serve("--strategies", "zero-shot", "--host", "0.0.0.0", env=env)
    text = welcome(process)
    assert f"curl http://127.0.0.1:{port}/v1" in text
    assert '-H "Authorization: Bearer $LOCALEMP_API_KEY"' in text
    code = text[text.index("import os, openai") : text.index("Ctrl-C")]
    for key, good in (("sk-two", True), ("sk-three", False)):
        env = {**os.environ, "LOCALEMP_API_KEY": key}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
        assert (done.returncode == 0) == good, done.stderr
    arguments = [command_line(child) for child in psutil.Process(process.pid).children(recursive=True)]
    (file,) = (localemp.folder / "cache").glob("servers-*/*.json")  # by which `respond` finds it
    found = json.loads(file.read_text())
    assert (found["model"], found["needs_key"], "sk-one" in file.read_text()) == ("tiny", True, False)
    assert found["url"] == f"http://127.0.0.1:{port}" and file.stat().st_mode & 0o777 == 0o600
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=patience(60))
    assert "sk-" not in text + said + str(arguments) + log_of(localemp)
    assert "warning" not in said
    assert not file.exists()


def test_without_a_key_the_whole_network_is_warned_about(serve):
    process = serve("--strategies", "zero-shot", "--host", "0.0.0.0", env={"LOCALEMP_API_KEY": ""})
    welcome(process)
    process.send_signal(signal.SIGINT)
    assert "without --api-key everyone who reaches 0.0.0.0" in process.communicate(timeout=patience(60))[1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
@pytest.mark.parametrize("ready", [True, False])
def test_a_signal_ends_it_and_everything_that_it_started(serve, number, code, ready):
    process = serve("--strategies", "zero-shot", worker=True, **({} if ready else {"says": ["INFO"], "pause": 600}))
    if ready:
        welcome(process)
    wait_until(lambda: len(psutil.Process(process.pid).children(recursive=True)) >= 5, process=process)
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, said = process.communicate(timeout=patience(60))
    assert process.returncode == code, said
    assert "stopping" in said
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(started, timeout=patience(10))
    assert not alive


def test_a_second_interrupt_kills_what_does_not_listen(serve):
    process = serve("--strategies", "zero-shot", stubborn=True)
    welcome(process)
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert any("stopping" in line for line in process.stderr)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=patience(20)) == 130
    _, alive = psutil.wait_procs(started, timeout=patience(10))
    assert not alive


@pytest.mark.parametrize("later", [False, True])
def test_a_server_that_dies_is_explained_on_one_screen(serve, later):
    says = ["Traceback (most recent call last):", "torch.OutOfMemoryError: CUDA out of memory."]
    told = {"says_later": says, "exits_later": 1} if later else {"says": says, "exits": 1}
    process = serve("--strategies", "zero-shot", **told)
    _, said = process.communicate(timeout=patience(60))
    assert process.returncode == 1
    assert f"error: vLLM's server {'died' if later else 'could not start'}: CUDA out of memory." in said
    assert "its log: " in said
    assert "Traceback" not in said
    assert len(said.splitlines()) < 12, said


def test_an_option_that_vllm_does_not_know_is_its_complaint_in_one_line(serve):
    process = serve("--strategies", "zero-shot", "--", "--warp-speed", 9)
    _, said = process.communicate(timeout=patience(60))
    assert process.returncode == 2
    assert "error: vLLM refuses these options: unrecognized arguments: --warp-speed 9\n" in said


def test_options_after_the_dashes_go_to_vllm_unchanged(serve, localemp):
    welcome(serve("--strategies", "zero-shot", "--", "--max-model-len", 128))
    assert "'max_model_len': '128'" in log_of(localemp)


@pytest.mark.parametrize(
    ("capability", "arguments", "variable"),
    [
        (0, "'no_enable_prefix_caching': True, 'port': {port}, 'shutdown_timeout': 30, 'max_num_seqs': 1", "None"),
        (75, "'no_enable_prefix_caching': True, 'port': {port}, 'shutdown_timeout': 30, 'max_num_seqs': 1", "None"),
        (90, "'no_enable_prefix_caching': False, 'port': {port}, 'shutdown_timeout': 30, 'max_num_seqs': None", "1"),
    ],
    ids=["cpu", "old-gpu", "gpu"],
)
def test_deterministic_is_what_the_hardware_can(serve, localemp, port, capability, arguments, variable):
    welcome(serve("--strategies", "zero-shot", "--deterministic", env={"FAKE_CAPABILITY": str(capability)}))
    log = log_of(localemp)
    assert arguments.format(port=port) in log
    assert f"batch-invariant: {variable}\n" in log


def test_deterministic_and_an_option_that_agrees_are_served(serve, localemp):
    options = ("--max-num-seqs=1", "--no-enable-prefix-caching")
    welcome(serve("--strategies", "zero-shot", "--deterministic", "--", *options))
    assert "'max_num_seqs': 1" in log_of(localemp)


def test_deterministic_and_an_option_that_contradicts_it_are_refused(serve):
    process = serve("--strategies", "zero-shot", "--deterministic", "--", "--max-num-seqs", 8)
    _, said = process.communicate(timeout=patience(60))
    assert process.returncode == 2
    assert "--deterministic: --max-num-seqs 8 contradicts it (one at a time here)" in said


def test_a_taken_port_is_found_before_anything_heavy(serve, port, localemp):
    with socket.create_server(("127.0.0.1", port)):
        _, said = (process := serve()).communicate(timeout=patience(60))
    assert (process.returncode, f"port {port}: address already in use" in said) == (2, True), said
    assert not (localemp.folder / "cache" / "logs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--strategies", "two-stag"), "unknown strategy 'two-stag'"),
        (("--strategies", "few-shot+similar"), "its parts exclude each other"),
        (("--api-key", " "), "--api-key is empty"),
        (("--model", "gpt-4o-mini", "--", "--max-model-len", "9"), "for vLLM, which does not run here"),
        (("--", "--port", "9"), "--port cannot go to vLLM"),
        (("smollm2",), "a model is named with --model"),
        (("--host", "no.such.host.invalid"), "no such address"),
        (("--upstream", ""), "--upstream is empty"),
        (("--upstream", "http://127.0.0.1:1/v1", "--upstream", " "), "--upstream is empty"),
        (("--allow-origin", "chat.example.org"), "--allow-origin 'chat.example.org': an address is https://HOST"),
        (("--drain", "-1"), "--drain"),
        (("--", "--allowed-origins", "[]"), "give it as --allow-origin before the --"),
        (("--", "--shutdown_timeout=9"), "give it as --drain before the --"),
    ],
)
def test_mistakes_are_told_at_once(serve, words, said):
    _, shown = (process := serve(*words)).communicate(timeout=patience(60))
    assert (process.returncode, said in shown) == (2, True), shown
    assert "Traceback" not in shown


def test_the_rust_front_end_is_refused_and_a_variable_that_is_off_is_not(serve):
    _, shown = (process := serve(env={"VLLM_USE_RUST_FRONTEND": "1"})).communicate(timeout=patience(60))
    assert (process.returncode, "runs no Python middleware" in shown) == (2, True), shown
    assert "ready" in welcome(serve(env={"VLLM_USE_RUST_FRONTEND": "false"}))


def test_a_config_file_of_vllm_cannot_ask_for_it_either(serve, tmp_path):
    (tmp_path / "vllm.yaml").write_text("grpc-port: 9000\n")
    _, shown = (process := serve("--", "--config", tmp_path / "vllm.yaml")).communicate(timeout=patience(60))
    assert (process.returncode, "--grpc-port cannot go to vLLM: vLLM's Rust front end" in shown) == (2, True), shown


def test_a_server_elsewhere_gets_the_same_front(serve, port):
    other = free_port()
    upstream = subprocess.Popen([sys.executable, FAKE, str(other)])
    try:
        env = {"OPENAI_API_KEY": "", "LOCALEMP_API_KEY": ""}
        words = ("--upstream", f"http://127.0.0.1:{other}/v1", "--strategies", "two-stage")
        process = serve(*words, env=env)
        text = welcome(process)
        assert f"ready before http://127.0.0.1:{other}/v1: http://127.0.0.1:{port}/v1" in text
        assert "  tiny:STRATEGY, with one of: two-stage\n" in text
        curl = next(line for line in text.splitlines() if line.startswith("curl ")).replace("tiny:two-stage", "tiny")
        answer = json.loads(subprocess.run(["sh", "-c", curl], capture_output=True, check=True).stdout)
        assert answer["choices"][0]["message"]["content"] == "tiny heard I lost my job today."
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=patience(30)) in (0, 130)
    finally:
        upstream.kill()
        upstream.wait()


def test_openais_own_server_is_asked_with_the_callers_key(serve):
    process = serve("--model", "gpt-4o-mini", "--strategies", "zero-shot", env={"OPENAI_API_KEY": ""})
    assert '-H "Authorization: Bearer $OPENAI_API_KEY"' in welcome(process)


def test_openais_own_server_wants_a_key_where_callers_have_ours(serve):
    words = ("--model", "gpt-4o-mini", "--strategies", "zero-shot", "--api-key", "sk-1")
    _, said = (process := serve(*words, env={"OPENAI_API_KEY": ""})).communicate(timeout=patience(60))
    assert (process.returncode, "needs a key, and OPENAI_API_KEY is not set" in said) == (1, True), said
    assert said.count("2027-01-14") == said.count("use gpt-6-luna instead") == 1, "when the model ends"
