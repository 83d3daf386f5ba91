"""`localemp models check`: which of our models a service has, by its list and by their names."""

import json
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest
from ports import free_port

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from fake_server import Answer, FakeServer, error

END = date.today() + timedelta(days=40)
MANY = [f"other-{number}" for number in range(30)]  # a list this long may be incomplete


class Service(FakeServer):
    """Has a list of models, and more than it lists.

    Attributes:
        unlisted: Models that are found by name only.
        failing: What is answered to a request for one model.
    """

    def __init__(self, *names, unlisted=(), failing=None, models=None):
        listed = [{"id": name, "object": "model", "shutdown_date": None} for name in names]
        super().__init__(models=models or Answer(body={"object": "list", "data": listed}))
        self.unlisted, self.failing = unlisted, failing

    def answer(self, request):
        _, _, name = request.path.partition("/models/")
        if not name:
            return super().answer(request)
        self.listings.append(request)
        if self.failing:
            return self.failing
        if name in self.unlisted:
            return Answer(body={"id": name, "object": "model", "shutdown_date": str(END)})
        return error(404, f"The model '{name}' does not exist", code="model_not_found")


@pytest.fixture
def profile(tmp_path):
    """Writes a profile of a model of a service, and returns its path."""

    def write(name, url, more=""):
        path = tmp_path / f"{name}.toml"
        path.write_text(f'kind = "chat"\nengine = "openai"\nmodel = "{name}"\nbase_url = "{url}"\n{more}')
        return path

    return write


def states(done):
    return {line.split()[0]: line.split()[2] for line in done.stdout.splitlines() if line.startswith(" ")}


def test_a_list_tells_which_of_ours_exist(localemp):
    with Service("gpt-6-luna", "gpt-6.1-terra") as service:
        done = localemp("models", "check", "--base-url", service.url)
        assert len(service.listings) == 1, "a short list is complete"
    assert done.returncode == 0, done.stderr
    found = states(done)
    assert found.pop("gpt-6-luna") == found.pop("gpt-6.1-terra") == "exists"
    assert set(found.values()) >= {"missing"}
    assert "until" not in done.stdout, "another server has dates of its own"


def test_a_named_model_that_is_missing_is_an_error(localemp):
    with Service("gpt-6-luna") as service:
        assert localemp("models", "check", "gpt-6-luna", "--base-url", service.url).returncode == 0
        done = localemp("models", "check", "gpt-6-luna", "gpt-5", "--base-url", service.url)
    assert done.returncode == 1
    assert states(done) == {"model": "state", "gpt-6-luna": "exists", "gpt-5": "missing"}


def test_of_a_long_list_each_model_that_it_lacks_is_asked_for(localemp):
    with Service(*MANY, unlisted=("mine",)) as service:
        done = localemp("models", "check", "mine", "gone", "--base-url", service.url, "--json")
        assert sorted(request.path for request in service.listings) == [
            "/v1/models",
            "/v1/models/gone",
            "/v1/models/mine",
        ]
    assert done.returncode == 1
    mine, gone = json.loads(done.stdout)
    assert (mine["found"], mine["shut_down"], mine["why"]) == (True, str(END), "")
    assert (gone["found"], gone["shut_down"]) == (False, None)


def test_the_services_own_date_counts_and_another_one_in_the_profile_is_pointed_out(localemp, profile):
    listed = Answer(body={"data": [{"id": "mine", "shutdown_date": str(END)}]})
    with Service(models=listed) as service:
        path = profile("mine", service.url, 'shut_down = 2036-01-01\nsuccessor = "new"\n')
        done = localemp("models", "check", path)
    assert done.returncode == 0, done.stderr
    assert f"until {END}, then new (its profile says 2036-01-01)" in done.stdout


def test_a_service_that_cannot_be_asked_is_no_error_for_the_others(localemp, profile):
    with Service("mine") as service, Service(models=error(401, "Incorrect API key provided: sk-secret")) as other:
        words = (profile("mine", service.url), profile("theirs", other.url))
        done = localemp("models", "check", *words, env={"OPENAI_API_KEY": "sk-secret"})
    assert done.returncode == 1, "it was named, and was not found"
    assert states(done) == {"model": "state", "mine": "exists"}
    assert f"not checked: theirs: {other.url} rejects the key" in done.stdout
    assert "sk-secret" not in done.stdout + done.stderr


def test_without_a_key_openai_is_not_asked(localemp):
    done = localemp("models", "check", "gpt-6-luna", env={"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""})
    assert done.returncode == 1, "it was named, and was not found"
    assert "not checked: gpt-6-luna: https://api.openai.com/v1 requires a key" in done.stdout
    assert "OPENAI_API_KEY is not set" in done.stdout


@pytest.mark.parametrize(
    ("listing", "failing", "why"),
    [
        (Answer(404), None, "no"),
        (Answer(200, "<html>Welcome</html>"), None, "a web page"),
        (Answer(200, "{"), None, "unusable answer"),
        (error(500, "oh no"), None, "oh no"),
        (error(403, "You have insufficient permissions"), None, "may not list models"),
        (None, error(500, "oh no"), "oh no"),
        (None, Answer(200, {"object": "model"}), "not a model"),
    ],
    ids=["no list", "web page", "not JSON", "error", "forbidden", "error for one", "not a model"],
)
def test_whatever_a_service_answers_is_told_in_a_line(localemp, listing, failing, why):
    with Service(*MANY, models=listing, failing=failing) as service:
        done = localemp("models", "check", "mine", "--base-url", service.url)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "not checked: mine: " in line]
    assert why in line


def test_no_server(localemp):
    url = f"http://127.0.0.1:{free_port()}/v1"
    done = localemp("models", "check", "mine", "--base-url", url)
    assert done.returncode == 1
    assert f"no server answers at {url}" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("smollm2",), "smollm2 is not a model of a service"),
        (("all-minilm-l6-v2",), "is a model of the kind 'encoder'"),
        (("gpt-7",), "gpt-7"),
        (("gpt-5", "--base-url", "nowhere"), "is not the URL of a server"),
    ],
    ids=["runs here", "encoder", "unknown", "url"],
)
def test_mistakes(localemp, words, message):
    done = localemp("models", "check", *words)
    assert done.returncode == 2
    assert message in done.stderr
