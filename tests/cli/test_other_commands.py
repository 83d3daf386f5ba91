"""The commands beside `generate`, `data` and `models`."""

import json

import pytest

from localemp.cli.messages import unexpected
from localemp.engines.vllm import versions
from localemp.utils.extras import engine_extra, install_command


def test_help_lists_every_command_and_unknown_ones_are_an_error(localemp):
    shown = localemp("--help")
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in ("generate", "respond", "chat", "prompts", "runs", "models", "doctor"))
    wrong = localemp("generat")
    assert (wrong.returncode, "known: generate" in wrong.stderr) == (2, True)


def test_doctor_says_what_is_here_and_never_shows_a_key(localemp, tmp_path):
    done = localemp("doctor", "--json", env={"OPENAI_API_KEY": "sk-secret", "LOCALEMP_CACHE": str(tmp_path / "none")})
    found = json.loads(done.stdout)
    assert found["Keys"]["OPENAI_API_KEY"] == "set"
    assert "sk-secret" not in done.stdout
    assert found["Weights"]["smollm2"] == "not downloaded"
    told = localemp("doctor", env={"LOCALEMP_CACHE": str(tmp_path / "none")})
    assert "localemp models pull smollm2" in told.stdout
    verdict, following = told.stdout.splitlines()[-2:]
    assert (found["Verdict"].split()[0], verdict.split()[0]) == ("Ready:", "Ready:")
    assert "need a key" in verdict and "(OPENAI_API_KEY)" in found["Verdict"]
    assert following == f"next: {found['Next']}" == 'next: localemp respond "I lost my job today."'


def test_doctor_says_what_to_install_without_an_engine(localemp, monkeypatch):
    monkeypatch.setattr(versions, "vllm_version", lambda: None)
    for key, following in (("", install_command(engine_extra())), ("sk-1", "--model gpt-6-luna")):
        done = localemp("doctor", env={"OPENAI_API_KEY": key})
        assert "Not ready for models on this machine: vLLM is not installed" in done.stdout
        assert done.stdout.rstrip().endswith(following)


def test_prompts_show_prints_both_stages_of_a_hosted_model(localemp):
    done = localemp("prompts", "show", "--model", "gpt-4o-mini", "--strategy", "two-stage", "--json", "--labels")
    feeling, reply = map(json.loads, done.stdout.splitlines())
    assert (feeling["stage"], reply["stage"]) == ("feeling", "reply")
    assert "One of these 32 emotions" in feeling["messages"][-1]["content"]
    assert reply["messages"][:-2] == feeling["messages"]
    assert feeling["tokens"] is None


def test_prompts_show_a_completion_model_gets_a_transcript(localemp):
    done = localemp("prompts", "show", "--model", "davinci-002", "--strategy", "few-shot", "--shots", 1)
    assert done.returncode == 0, done.stderr
    assert "Instance 1:" in done.stdout
    assert done.stdout.rstrip().endswith("Listener:")
    wrong = localemp("prompts", "show", "--model", "davinci-002", "--layout", "chat")
    assert (wrong.returncode, "does not support the chat layout" in wrong.stderr) == (2, True)


def test_prompts_show_an_index_that_is_not_there(localemp):
    done = localemp("prompts", "show", "--model", "gpt-4o-mini", "--index", 12)
    assert (done.returncode, "has 12 dialogues" in done.stderr) == (2, True)


@pytest.mark.parametrize("turns", [("",), ("Hello", "Hi"), ("a", "  ", "b")])
def test_respond_refuses_what_is_no_dialogue(localemp, turns):
    done = localemp("respond", *turns, "--model", "gpt-4o-mini")
    assert (done.returncode, "cannot answer this" in done.stderr) == (2, True)


def test_respond_with_a_script(localemp, tmp_path):
    script = tmp_path / "script.jsonl"
    script.write_text('{"match": "lost my job", "reply": "Listener: That is hard.\\nSpeaker: Yes."}\n')
    done = localemp("respond", "I lost my job.", "--script", script)
    assert done.stdout == "That is hard.\n"


FLOW = """
about = "what kind of talk, then the reply"

[[stages]]
name = "kind"
ask = "Which of: {labels}?"
labels = ["Loss", "Joy"]

[[stages]]
name = "reply"
ask = "It is a {kind} that feels {emotion}."
"""


def test_respond_and_chat_with_a_flow(localemp, tmp_path):
    script, flow = tmp_path / "script.jsonl", tmp_path / "kinds.toml"
    entries = [
        {"match": "Which of", "where": "last", "reply": "A loss."},
        {"match": "a Loss that feels sad", "where": "last", "reply": "Oh no."},
        {"match": "It is a Loss.", "where": "last", "reply": "I see."},
    ]
    script.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    flow.write_text(FLOW)
    words = ("--script", script, "--strategy", flow)
    done = localemp("respond", "My cat died.", *words, "--emotion", "sad", "--stages")
    assert [line.strip("│ ") for line in done.stdout.splitlines() if "->" in line or "read as" in line] == [
        "-> A loss.", "read as Loss", "-> Oh no."
    ]  # fmt: skip
    for command in ("respond", "chat"):
        done = localemp(command, *(("My cat died.",) if command == "respond" else ()), *words, typed="My cat died.\n\n")
        assert (done.returncode, "has no emotion" in done.stderr, "you:" in done.stdout) == (2, True, False)
    flow.write_text(FLOW.replace(" that feels {emotion}", ""))
    done = localemp("chat", *words, typed="My cat died.\n\n")
    assert "listener: I see.\n" in done.stdout


def test_chat_keeps_the_dialogue_and_can_begin_another(localemp, tmp_path):
    script = tmp_path / "script.jsonl"
    entries = [{"match": "cat", "where": "prompt", "reply": "About your cat."}, {"reply": "I see."}]
    script.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    done = localemp("chat", "--script", script, typed="My cat ran away.\nToday.\n/new\nHello.\n\n")
    replies = [line.rpartition("listener: ")[2] for line in done.stdout.splitlines() if "listener: " in line]
    assert replies == ["About your cat.", "About your cat.", "I see."]


def test_chat_goes_on_after_a_failed_or_empty_answer(localemp, tmp_path):
    script = tmp_path / "script.jsonl"
    entries = [
        {"match": "storm", "where": "last", "error": "engine"},
        {"match": "fog", "where": "last", "reply": ""},
        {"match": "rain", "where": "prompt", "reply": "Still about rain."},
    ]
    script.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    done = localemp("chat", "--script", script, typed="rain\nstorm\nfog\nand now?\n\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Still about rain.") == 2
    assert "try again" in done.stderr
    assert "the reply is empty" in done.stderr


def test_no_key_for_a_hosted_model_is_an_error_before_anything_is_sent(localemp):
    done = localemp("respond", "Hi.", "--model", "gpt-4o-mini", env={"OPENAI_API_KEY": ""})
    assert done.returncode == 1
    assert "OPENAI_API_KEY" in done.stderr


def test_no_server_at_the_url(localemp):
    done = localemp("generate", "--base-url", "http://127.0.0.1:9/v1", "--model", "smollm2", "--limit", 1)
    assert done.returncode == 1
    assert "http://127.0.0.1:9/v1" in done.stderr


@pytest.mark.parametrize("url", ["", " "])
def test_no_url_is_not_openais_server(localemp, url):
    done = localemp("respond", "Hi.", "--base-url", url, env={"OPENAI_API_KEY": "sk-mine"})
    assert (done.returncode, "--base-url is empty" in done.stderr) == (2, True)


def test_runs_of_an_empty_folder(localemp):
    assert "no runs in runs" in localemp("runs", "list").stdout
    done = localemp("runs", "show", "nowhere")
    assert (done.returncode, "is not a run" in done.stderr) == (1, True)


def test_what_a_bare_installation_lacks_is_no_bug():
    message, hint = unexpected(ModuleNotFoundError("No module named 'torch'", name="torch"))
    assert message.startswith("torch is not installed") and hint == install_command("models")
