"""`localemp serve` with the real vLLM, the real middleware and the embedded model, from the start to Ctrl-C."""

import signal
import socket
import time

import openai
import psutil
import pytest

pytestmark = pytest.mark.engine


def test_serve_starts_answers_and_stops_without_a_trace(localemp):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = localemp.start(
        "serve", "--port", port, "--strategies", "zero-shot,two-stage", "--api-key", "sk-test",
        "--", "--max-model-len", 1024, "--kv-cache-memory-bytes", 2**30,
    )  # fmt: skip
    try:
        shown = ""
        while "Ctrl-C stops." not in shown:
            line = process.stdout.readline()
            assert line, process.communicate()
            shown += line
        assert "  smollm2:STRATEGY, with one of: zero-shot, two-stage\n" in shown
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-test", max_retries=0)
        models = {model.id: model for model in client.models.list()}
        assert list(models) == ["smollm2", "smollm2:zero-shot", "smollm2:two-stage"]
        assert models["smollm2"].model_dump()["max_model_len"] == 1024
        messages = [{"role": "user", "content": "I lost my job today."}]
        answer = client.chat.completions.create(model="smollm2", messages=messages, max_tokens=8, temperature=0)
        assert (answer.model, answer.usage.completion_tokens) == ("smollm2", 8)
        assert answer.choices[0].message.content
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="sk-other").models.list()
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert time.monotonic() - began < 30
        assert "Traceback" not in said
        _, alive = psutil.wait_procs(started, timeout=10)
        assert not alive
    finally:
        process.kill()
        process.communicate()
