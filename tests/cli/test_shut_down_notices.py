"""A model whose end is announced: every command that asks it says so at its beginning, in one line, once."""

import json
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
sys.path.insert(0, str(Path(__file__).parents[1] / "studies"))
from fake_server import Answer, FakeServer, completion, error
from small_study import small_study

LISTED = Answer(body={"object": "list", "data": [{"id": "old", "shutdown_date": "2027-01-14"}]})


@pytest.fixture
def server():
    with FakeServer(models=LISTED) as server:
        yield server


@pytest.fixture
def model(tmp_path, server):
    """Writes a profile of a model that ends in some days, and returns its path."""

    def write(days, more=""):
        path, end = tmp_path / "mine.toml", date.today() + timedelta(days=days)
        text = f'kind = "chat"\nengine = "openai"\nmodel = "old"\nbase_url = "{server.url}"\nsystem_role = true\n'
        path.write_text(f'{text}shut_down = {end}\nsuccessor = "new"\n{more}')
        return path

    return write


@pytest.fixture
def talks(tmp_path):
    path = tmp_path / "talks.jsonl"
    path.write_text("".join(json.dumps({"id": f"d{i}", "turns": [f"Story number {i}."]}) + "\n" for i in range(3)))
    return path


def notices(text):
    return [line for line in text.splitlines() if "shut" in line and "down mine" in line]


@pytest.mark.parametrize(
    ("days", "says"),
    [
        (20, "note: the provider shuts down mine on "),
        (-20, "note: the provider announced that it would shut down mine"),
    ],
    ids=["soon", "over"],
)
def test_generate(localemp, model, talks, days, says):
    done = localemp("generate", "--model", model(days), "--data", talks, "--out", "run")
    assert done.returncode == 0, done.stderr
    (notice,) = notices(done.stderr)
    assert notice.startswith(says)
    assert str(date.today() + timedelta(days=days)) in notice or "tomorrow" in notice
    assert notice.endswith("; use new instead")
    assert done.stderr.startswith(notice), "before anything else"


def test_an_estimate(localemp, model, talks):
    done = localemp("generate", "--model", model(20), "--data", talks, "--estimate")
    assert done.returncode == 0, done.stderr
    assert len(notices(done.stderr)) == 1


def test_an_experiment_says_it_once_for_all_rows(localemp, model, talks, tmp_path):
    (tmp_path / "plan.toml").write_text(
        f'models = ["{model(20)}"]\ndata = "{talks}"\n[[rows]]\nname = "{{strategy}}"\n'
        'strategy = ["zero-shot", "two-stage"]\n[after]\nscore = false\nreport = false\n'
    )
    done = localemp("experiment", "plan.toml")
    assert done.returncode == 0, done.stderr
    assert len(notices(done.stderr)) == 1


def test_a_judge(localemp, model, server, tmp_path):
    small_study(tmp_path / "study")
    server.answers = [Answer(body=completion(message={"content": "A"})) for _ in range(200)]
    done = localemp("study", "judge", "study", "--judge", model(20))
    assert done.returncode == 0, done.stderr
    assert len(notices(done.stderr)) == 1


@pytest.mark.parametrize("after", [0, 1], ids=["from the beginning", "during the run"])
def test_the_error_for_a_model_that_is_gone_names_the_date(localemp, model, server, talks, after):
    gone = error(404, "The model `old` has been deprecated", code="model_not_found")
    server.answers = [Answer(body=completion())] * after + [gone] * 50
    done = localemp("generate", "--model", model(-20), "--data", talks, "--out", "run", "--concurrency", 1)
    assert done.returncode == 1
    assert "has no model 'old': The model `old` has been deprecated" in done.stderr
    end = str(date.today() - timedelta(days=20))
    assert f"hint: the provider announced that it would shut down mine on {end}; use new instead" in done.stderr
    assert len(server.requests) == after + 1, "it is not asked for again and again"


def test_a_chosen_effort_is_sent_with_room_for_it(localemp, model, server, talks):
    takes = '[takes]\nreasoning_effort = ["low", "high"]\n'
    words = ("generate", "--model", model(20, takes), "--data", talks, "--limit", 1)
    refused = localemp(*words, "--out", "no", "--reasoning-effort", "max")
    assert refused.returncode != 0
    assert "--reasoning-effort max: mine does not take this value" in refused.stderr
    assert "it takes low, high" in refused.stderr
    assert server.requests == []
    done = localemp(*words, "--out", "run", "--reasoning-effort", "high", "--verbosity", "low")
    assert done.returncode == 0, done.stderr
    (asked,) = server.requests
    assert (asked.body["reasoning_effort"], asked.body["verbosity"]) == ("high", "low")
    assert asked.body["max_tokens"] == 128 + 16_384


def test_an_answer_that_was_all_reasoning_is_explained(localemp, model, server, talks):
    counts = {"prompt_tokens": 20, "completion_tokens": 2176, "completion_tokens_details": {"reasoning_tokens": 2176}}
    server.answers = [Answer(body=completion(message={"content": ""}, finish_reason="length", usage=counts))] * 5
    words = ("--data", talks, "--limit", 1, "--out", "run", "--reasoning-effort", "low")
    done = localemp("generate", "--model", model(20), *words)
    assert done.returncode == 1
    why = localemp("runs", "show", "run", "--errors").stdout
    assert "all 2,176 tokens of the answer went into reasoning" in why
    assert "--thinking-budget" in why
