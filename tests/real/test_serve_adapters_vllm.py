"""`localemp serve --adapter` with the real vLLM: the embedded model with two adapters, by openai's client."""

import openai
import pytest
from command import Localemp
from ports import free_port
from tiny_adapter import write_adapter

from localemp.strategies.cleaning import clean_reply

pytestmark = pytest.mark.engine

TALK = [{"role": "user", "content": "I lost my job today."}]
BARE = ["smollm2", "smollm2@a", "smollm2@b"]
# Inputs and outputs in a layer of SmolLM2 135M, which has 30.
MODULES = {"self_attn.q_proj": (576, 576), "mlp.down_proj": (1536, 576)}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve-adapters")
    for seed, name in enumerate("ab"):
        write_adapter(folder / name, modules=MODULES, layers=range(30), seed=seed, scale=0.2)
    port = free_port()
    process = Localemp(folder).start(
        "serve", "--port", port, "--strategies", "two-stage", "--adapter", "a", "--adapter", "b=b",
        "--", "--max-model-len", 1024, "--kv-cache-memory-bytes", 2**28,
    )  # fmt: skip
    try:
        while (line := process.stdout.readline()) != "Ctrl-C stops.\n":
            assert line, process.communicate()
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def ask(client, model, **options):
    return client.chat.completions.create(model=model, messages=TALK, max_tokens=16, temperature=0, **options)


def test_all_are_listed_and_found(client):
    listed = {entry.id: entry.model_dump() for entry in client.models.list()}
    assert list(listed) == [*BARE, *(f"{name}:two-stage" for name in BARE)]
    assert {name: entry["parent"] for name, entry in listed.items() if "two-stage" not in name} == {
        "smollm2": None, "smollm2@a": "smollm2", "smollm2@b": "smollm2"
    }  # fmt: skip
    assert len({listed[f"smollm2@{name}"]["adapter_sha256"] for name in "ab"}) == 2
    assert {entry["max_model_len"] for entry in listed.values()} == {1024}
    assert client.models.retrieve("smollm2@a:two-stage").id == "smollm2@a:two-stage"


@pytest.mark.parametrize("strategy", ["", ":two-stage"])
def test_each_adapter_answers_in_its_own_words_and_the_model_in_its_own(client, strategy):
    names = [f"{bare}{strategy}" for bare in BARE]
    answers = [ask(client, name) for name in names]
    assert [answer.model for answer in answers] == names
    assert len({answer.choices[0].message.content for answer in answers}) == 3


def test_both_stages_have_the_adapter(client):
    traces = [ask(client, f"{name}:two-stage", extra_body={"localemp": {"trace": True}}).localemp for name in BARE]
    assert [trace["adapter"] for trace in traces] == [None, "a", "b"]
    assert len({trace["stages"][0]["text"] for trace in traces}) == 3


def test_a_stream_has_the_adapter_in_both_stages(client):
    *chunks, last = ask(client, "smollm2@a:two-stage", stream=True, extra_body={"localemp": {"trace": True}})
    assert {chunk.model for chunk in [*chunks, last]} == {"smollm2@a:two-stage"}
    trace = last.model_dump()["localemp"]
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert (trace["adapter"], said) == ("a", clean_reply(trace["stages"][-1]["text"]))


def test_an_adapter_that_is_not_served_is_not_found(client):
    for name in ("smollm2@c", "smollm2@c:two-stage"):
        with pytest.raises(openai.NotFoundError, match="unknown adapter 'c'"):
            ask(client, name)
