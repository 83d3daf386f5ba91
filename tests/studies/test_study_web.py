"""The study's server: who gets in, what they see, what is kept, and what is refused."""

import csv
import io
import itertools
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patience import patience
from ports import free_port

pytest.importorskip("starlette", reason="the raters' page needs starlette: pip install 'localemp[serve]'")

from small_study import ASPECTS, small_study
from starlette.testclient import TestClient

from localemp.studies.answers import AnswerStore
from localemp.studies.study import ANSWERS, KEY, Study
from localemp.studies.votes import Vote
from localemp.studies.web.app import StudyApp
from localemp.web.addresses import normalize_address

LOCAL = "http://127.0.0.1:8300"
HOSTS = ("127.0.0.1", "localhost", "::1")
OURS = {"Origin": LOCAL, "X-Study": "1"}


class Served:
    """A study behind its app, with a browser for each visitor."""

    def __init__(self, folder: Path, **made: Any) -> None:
        self.study = Study.read(small_study(folder, **made).folder)
        self.answers = AnswerStore(folder / ANSWERS, self.study)
        self.app = StudyApp(self.study, self.answers, signup=True, hosts=HOSTS).app

    def browser(self, url: str = LOCAL) -> TestClient:
        return TestClient(self.app, base_url=url, headers={**OURS, "Origin": url}, follow_redirects=False)

    def rater(self, name: str) -> TestClient:
        browser = self.browser()
        assert browser.get(f"/r/{self.answers.add_rater(name)}").status_code == 303
        return browser

    def owner(self) -> TestClient:
        browser = self.browser()
        assert browser.get(f"/o/{self.answers.add_rater('owner', 'owner')}").status_code == 303
        return browser


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path / "study")


def answer(rater: str = "anna", **changed: Any) -> dict[str, Any]:
    return {
        "rater": rater,
        "answers": [{"item": "i0", "aspect": "Empathy", "value": "k0-1", "seconds": 3.5, **changed}],
    }


def test_a_link_moves_its_token_into_a_cookie_that_no_script_and_no_other_site_gets(served):
    token = served.answers.add_rater("anna")
    plain, secure = (served.browser(url).get(f"/r/{token}") for url in (LOCAL, "https://127.0.0.1"))
    assert (plain.status_code, plain.headers["location"]) == (303, "/")
    assert re.fullmatch(
        rf"study-\w+={token}; HttpOnly; Max-Age=\d+; Path=/; SameSite=strict", plain.headers["set-cookie"]
    )
    assert "Secure" in secure.headers["set-cookie"]
    assert token not in plain.text


def test_behind_a_server_with_https_its_address_counts(served):
    url = "https://rate.example"
    app = StudyApp(served.study, served.answers, signup=False, hosts=None, url=url).app
    inner = TestClient(app, base_url="http://10.0.0.7:8300", headers={**OURS, "Origin": url}, follow_redirects=False)
    cookie = inner.get(f"/r/{served.answers.add_rater('anna')}").headers["set-cookie"]
    assert cookie.endswith("Secure")
    sent = {"Cookie": cookie.partition(";")[0]}  # which the server before this one passes on
    assert inner.put("/answers", json=answer(), headers=sent).status_code == 200
    refused = inner.put("/answers", json=answer(), headers={**sent, "Origin": "http://10.0.0.7:8300"})
    assert refused.status_code == 403


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("https://Study.Example.org/", "https://study.example.org"),
        ("https://study.example.org:443", "https://study.example.org"),
        ("http://study.example.org:8080", "http://study.example.org:8080"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://[::1]:8300", "https://[::1]:8300"),
    ],
)
def test_an_address_is_what_browsers_send(typed, sent):
    assert normalize_address(typed) == sent


@pytest.mark.parametrize(
    "typed",
    ["study.example.org", "ftp://x.org", "https://x.org:abc", "https://x.org#a", "https://x.org/a", "https://u@x.org"],
)
def test_no_address_of_a_server(typed, localemp, tmp_path):
    with pytest.raises(ValueError):  # whatever is wrong with it
        normalize_address(typed)
    if typed.endswith("#a"):
        small_study(tmp_path / "study")
        done = localemp("study", "serve", "study", "--url", typed)
        assert (done.returncode, "the pages are at the root of a host" in done.stderr) == (2, True)


def test_a_wrong_link_opens_nothing(served):
    browser, owner = served.browser(), served.answers.add_rater("owner", "owner")
    for path in ("/r/guessed", f"/r/{owner}", f"/o/{served.answers.add_rater('anna')}"):
        refused = browser.get(path)
        assert (refused.status_code, "set-cookie" in refused.headers) == (404, False)
    assert browser.get("/items").json() == {"signup": True}
    assert browser.put("/answers", json=answer()).status_code == 401


def test_a_rater_sees_the_blinded_study_in_an_order_of_their_own_without_the_key(served):
    (served.study.folder / KEY).unlink()
    seen = served.rater("anna").get("/items")
    shown = seen.json()["study"]
    expected = [item.model_dump(mode="json") for item in served.study.shown_to("anna")]
    assert shown["items"] == expected != served.rater("ben").get("/items").json()["study"]["items"]
    assert not re.search("plain|twostage|seed|sha256", seen.text)
    assert set(shown) == {
        "kind", "title", "instructions", "question", "aspects", "scale", "scale_words", "items"
    }  # fmt: skip


def test_answers_are_kept_with_what_was_shown_first_and_come_back(served):
    anna = served.rater("anna")
    assert anna.put("/answers", json=answer()).json() == {"kept": 1}
    assert anna.put("/answers", json=answer(value="tie")).json() == {"kept": 1}
    first = next(item for item in served.study.shown_to("anna") if item.id == "i0").replies[0].key
    assert served.answers.votes() == [Vote("anna", "i0", "Empathy", "tie", first=first)]
    assert [given.seconds for given in served.answers.history()] == [3.5, 3.5]
    assert anna.get("/items").json()["answers"] == [["i0", "Empathy", "", "tie"]]


def test_nobody_sees_or_changes_the_answers_of_another(served):
    anna, ben = served.rater("anna"), served.rater("ben")
    anna.put("/answers", json=answer())
    assert ben.get("/items").json()["answers"] == []
    assert ben.put("/answers", json=answer()).status_code == 409
    ben.put("/answers", json=answer("ben", value="tie"))
    assert [(vote.rater, vote.value) for vote in served.answers.votes()] == [("anna", "k0-1"), ("ben", "tie")]
    for path in ("/owner/progress", "/owner/votes.csv", "/owner/votes.jsonl?unblinded=1"):
        assert ben.get(path).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://[half"},
        {"Origin": "http://127.0.0.1:8301"},
        {"X-Study": ""},
    ],
)
def test_another_site_can_change_nothing(served, headers):
    anna = served.rater("anna")
    for send, path in ((anna.put, "/answers"), (anna.post, "/sign-in"), (anna.post, "/sign-out")):
        assert send(path, json=answer(), headers=headers).status_code == 403
    assert served.answers.votes() == []


def test_on_this_machine_only_its_own_names_are_answered(served):
    assert served.browser("http://rebound.example:8300").get("/").status_code == 403
    assert served.browser("http://rebound.example").post("/sign-in", json={"name": "anna"}).status_code == 403
    assert [served.browser(f"http://{host}:9000").get("/").status_code for host in ("localhost", "[::1]")] == [200, 200]
    assert served.answers.progress() == {}


def test_a_name_alone_lets_in_where_that_is_allowed_and_is_given_once(served):
    anna = served.browser()
    link = anna.post("/sign-in", json={"name": " Anna "}).json()["link"]
    assert anna.get("/items").json()["rater"] == "Anna"
    taken = served.browser().post("/sign-in", json={"name": "anna"})
    assert (taken.status_code, taken.json()["message"]) == (422, "the name 'Anna' is taken")
    assert taken.json()["hint"] == "open the link that you were given, or choose another name"
    elsewhere = served.browser()
    elsewhere.get(link)
    assert elsewhere.get("/items").json()["rater"] == "Anna"
    anna.post("/sign-out")
    assert anna.get("/items").status_code == 401
    closed = TestClient(StudyApp(served.study, served.answers, False, None).app, base_url=LOCAL, headers=OURS)
    assert closed.get("/items").json() == {"signup": False}
    assert closed.post("/sign-in", json={"name": "ben"}).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{" * 5000,
        b"\xff\xfe",
        json.dumps(answer(item="i9")).encode(),
        json.dumps(answer(aspect="Warmth")).encode(),
        json.dumps(answer(value="k1-0")).encode(),
        json.dumps(answer(value="tie", reply="k0-1")).encode(),
        json.dumps(answer(value=True)).encode(),
        json.dumps(answer(seconds=-1)).encode(),
        json.dumps(answer(seconds=float("nan"))).encode(),
        json.dumps(answer(kind="judge")).encode(),
        json.dumps({"rater": "anna", "answers": []}).encode(),
        json.dumps({"rater": "anna", "answers": answer()["answers"] * 101}).encode(),
        b" " * 70_000 + json.dumps(answer()).encode(),
    ],
)
def test_what_is_no_answer_is_refused_and_nothing_is_kept(served, body):
    refused = served.rater("anna").put("/answers", content=body)
    assert refused.status_code == 422
    assert refused.json()["message"]
    assert served.answers.votes() == []


@pytest.mark.parametrize("value", [0, 6, "3", 2.5])
def test_ratings_out_of_range_are_refused(tmp_path, value):
    served = Served(tmp_path / "study", kind="rating")
    anna = served.rater("anna")
    assert anna.put("/answers", json=answer(reply="k0-1", value=value)).status_code == 422
    assert anna.put("/answers", json=answer(reply="k0-1", value=5)).status_code == 200
    assert [vote.value for vote in served.answers.votes()] == [5]


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/key.json", "/page/../key.json", "/page/%2e%2e/key.json", "/page/rate.html", "/owner/votes.db"],
)
def test_no_path_but_the_pages_own_is_there(served, path):
    found = served.rater("anna").get(path)
    assert (found.status_code, found.headers["content-type"]) == (404, "text/plain; charset=utf-8")
    assert found.text == "Not Found"


def test_every_answer_forbids_framing_foreign_code_and_storing(served):
    browser = served.browser()
    for path in ("/", "/owner", "/page/rate.js", "/items", "/nothing", "/r/guessed"):
        headers = browser.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert (headers["x-frame-options"], headers["cache-control"]) == ("DENY", "no-store")
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


def test_the_owner_sees_progress_and_agreement_and_takes_the_votes_blinded_or_not(served):
    anna, ben, owner = served.rater("anna"), served.rater("ben"), served.owner()
    for name, browser in (("anna", anna), ("ben", ben)):
        for aspect in ASPECTS:
            browser.put("/answers", json=answer(name, aspect=aspect))
        browser.put("/answers", json=answer(name, item="i1", value="tie" if name == "ben" else "k1-0"))
    seen = owner.get("/owner/progress").json()
    assert [(rater["name"], rater["done"]) for rater in seen["raters"]] == [("anna", 1), ("ben", 1)]
    empathy, coherence, _ = seen["agreement"]
    assert (empathy["units"], empathy["items"], empathy["equal"], empathy["why"]) == (2, 2, 0.5, "")
    assert coherence == {
        "aspect": "Coherence", "units": 1, "items": 1, "equal": 1.0, "alpha": None, "why": "all answers are the same",
    }  # fmt: skip
    blinded = list(csv.DictReader(io.StringIO(owner.get("/owner/votes.csv").text)))
    assert blinded[0] | {"at": "", "first": ""} == {
        "rater": "anna", "kind": "person", "item": "i0", "aspect": "Empathy", "reply": "", "value": "k0-1",
        "first": "", "seconds": "3.5", "at": "",
    }  # fmt: skip
    unblinded = [json.loads(line) for line in owner.get("/owner/votes.jsonl?unblinded=1").text.splitlines()]
    assert (unblinded[0]["dialogue"], unblinded[0]["system"], unblinded[0]["value"]) == (
        "d0",
        "plain vs twostage",
        "twostage",
    )
    assert {line["value"] for line in unblinded} == {"plain", "twostage", "tie"}


def test_a_study_that_became_another_takes_no_answer(tmp_path, served):
    anna = served.rater("anna")
    other = small_study(tmp_path / "other", seed=1)
    AnswerStore(served.answers.path, other).put(Vote("ben", "i0", "Empathy", "tie"))
    refused = anna.put("/answers", json=answer())
    assert refused.status_code == 503
    assert "changed after rating began" in refused.json()["message"]


# The commands.


@pytest.fixture
def port() -> int:
    return free_port()


def greeting(localemp: Callable[..., Any], *words: object) -> str:
    """What `study serve` prints until it is ready; it is ended then."""
    process = localemp.start("study", "serve", *words)
    assert process.stdout is not None
    said = "".join(itertools.takewhile(lambda line: "Ctrl-C" not in line, process.stdout))
    process.terminate()
    _, errors = process.communicate(timeout=patience(60))
    assert "Traceback" not in errors
    return said + errors


def test_links_are_printed_once_and_stay_valid_until_a_new_one_is_made(tmp_path, localemp, port):
    study = small_study(tmp_path / "study")
    first = greeting(localemp, "study", "--raters", "anna, ben lee", "--port", port)
    tokens = dict(re.findall(rf"  ([\w ]+): http://127.0.0.1:{port}/[ro]/(\S+)", first))
    assert set(tokens) == {"owner", "anna", "ben lee"}
    assert "By a name alone, on this machine" in first
    assert not list(study.folder.glob("answers.sqlite-*"))  # one file is all there is to copy
    words = (
        "--raters",
        "anna,ben lee",
        "--new-link",
        "ben lee",
        "--new-link",
        "owner",
        "--url",
        "https://rate.example/",
    )
    again = greeting(localemp, "study", *words, "--host", "0.0.0.0", "--port", port)
    assert "anna: has a link already (--new-link anna makes a fresh one)" in again
    assert "By a name alone" not in again
    fresh = re.findall(r"ben lee: https://rate.example/r/(\S+)", again)
    answers = AnswerStore(study.folder / ANSWERS, study)
    known = [answers.rater_of(token) for token in (tokens["anna"], tokens["ben lee"], tokens["owner"], *fresh)]
    assert [rater and rater.name for rater in known] == ["anna", None, None, "ben lee"]


def test_mistakes_are_told_with_what_to_do_before_any_link_is_made(tmp_path, localemp, port):
    study = small_study(tmp_path / "study")
    serve = ("study", "serve", "study", "--raters", "anna", "--port", port)
    with socket.create_server(("127.0.0.1", port)):
        taken = localemp(*serve)
    assert (taken.returncode, "cannot listen on 127.0.0.1" in taken.stderr) == (2, True)
    # From a range for documentation: no machine has it.
    elsewhere = localemp(*serve, "--host", "192.0.2.1")
    assert (elsewhere.returncode, "--host 192.0.2.1: not an address of this machine" in elsewhere.stderr) == (2, True)
    unknown = localemp(*serve, "--new-link", "zoe")
    assert (unknown.returncode, "no rater is called 'zoe'" in unknown.stderr) == (2, True)
    assert AnswerStore(study.folder / ANSWERS, study).progress() == {}
    assert taken.stdout == elsewhere.stdout == unknown.stdout == ""
    assert "no study here" in localemp("study", "export", "nothing").stderr


def test_votes_are_exported_to_a_file(tmp_path, localemp):
    study = small_study(tmp_path / "study", "rating")
    AnswerStore(study.folder / ANSWERS, study).put(Vote("ann", "i2", "Empathy", 4, "k2-1", kind="import"))
    (tmp_path / "votes.csv").write_text("older")
    (tmp_path / "votes.csv").chmod(0o644)
    done = localemp("study", "export", "study", "--out", "votes.csv", "--unblinded")
    assert done.stdout == "1 answer: votes.csv\n"
    assert (tmp_path / "votes.csv").stat().st_mode & 0o777 == 0o600  # it names systems
    (line,) = csv.DictReader((tmp_path / "votes.csv").open())
    assert line | {"at": ""} == {
        "rater": "ann", "kind": "import", "item": "i2", "dialogue": "d2", "aspect": "Empathy", "system": "twostage",
        "value": "4", "first": "", "seconds": "", "at": "",
    }  # fmt: skip
