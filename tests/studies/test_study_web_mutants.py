"""Whatever is sent to the study's server: no answer of 500, no long answer, and nothing kept that nobody said."""

import json
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the raters' page needs starlette: pip install 'localemp[serve]'")

from test_study_web import LOCAL, Served, answer
from utils.mutants import HOSTILE_VALUES, mutants

from localemp.studies.raters import clean_name
from localemp.studies.votes import check_vote

COUNT = 500  # in each of four tests
PATHS = (
    *("/", "/r/", "/r/" + "x" * 5000, "/r/%ff", "/r/%00", "/r/a%2fb", "/o/%f0%9f", "/owner/votes.", "//", "/%2e%2e/"),
    *("/owner/votes.csv?unblinded=%ff", "/owner/votes.jsonl?unblinded=1&unblinded=2", "/page/%00", "/items?x"),
    *("/owner/progress", "/answers", "/sign-in", "/sign-out", f"{LOCAL}/items"),
)
ODD = ("\x00", "\xff", "=" * 3000, "a;b=c", '"', "study-x=\xff", "[", "http://[", "http://[::1", "//@", "%zz")


@pytest.mark.parametrize("kind", ["ab", "rating"])
def test_no_answer_is_answered_with_an_error_of_ours(tmp_path: Path, kind: str) -> None:
    served = Served(tmp_path / "study", kind=kind)
    anna = served.rater("anna")
    good = answer() if kind == "ab" else answer(reply="k0-1", value=4)
    statuses = set()
    for body in [*_with_each_value(good), *mutants(json.dumps(good).encode(), COUNT, seed=3)][:COUNT]:
        got = anna.put("/answers", content=body)
        statuses.add(got.status_code)
        assert got.status_code in (200, 409, 422), (got.status_code, body[:200], got.text[:200])
        assert got.json().keys() == ({"kept"} if got.status_code == 200 else {"message", "hint"})
        assert len(got.content) < 1000, body[:200]
    assert statuses == {200, 409, 422}
    for vote in served.answers.votes():
        check_vote(served.study, vote)


@pytest.mark.parametrize("seed", [4, 5])
def test_no_name_is_answered_with_an_error_of_ours(tmp_path: Path, seed: int) -> None:
    served = Served(tmp_path / "study")
    for body in [*_names(), *mutants(b'{"name": "ben"}', COUNT, seed)][:COUNT]:
        got = served.browser().post("/sign-in", content=body)
        assert got.status_code in (200, 422), (got.status_code, body[:200], got.text[:200])
        assert len(got.content) < 1000, body[:200]
    names = served.answers.progress()
    assert "ben" in names
    assert all(name == clean_name(name) for name in names)


def test_no_address_or_header_is_answered_with_an_error_of_ours(tmp_path: Path) -> None:
    served = Served(tmp_path / "study")
    anna = served.rater("anna")
    for path in PATHS:
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "NONE"):
            assert anna.request(method, path).status_code < 500, (method, path)
    for name in ("cookie", "origin", "host", "x-study", "content-length", "content-type", "range"):
        for value in ODD:
            raw = {name.encode(): value.encode("latin-1")}
            assert served.browser().request("GET", "/items", headers=raw).status_code < 500, (name, value)
            assert anna.request("PUT", "/answers", headers=raw, json=answer()).status_code < 500, (name, value)


def _with_each_value(good: dict[str, object]) -> list[bytes]:
    """The good body with every hostile value in every place."""
    (inner,) = good["answers"]  # type: ignore[misc]
    outer = [json.dumps({**good, name: "@"}) for name in good]
    inside = [json.dumps({**good, "answers": [{**inner, name: "@"}]}) for name in (*inner, "reply")]
    return [text.replace('"@"', value).encode() for text in (*outer, *inside) for value in HOSTILE_VALUES]


def _names() -> list[bytes]:
    texts = [
        "=1",
        "owner",
        "a\x00b",
        "a\u202eb",
        "x" * 60_000,
        " ",
        "\u0130",
        "\ufb03",
        "a,b",
        "\x1b[2J",
        "\U0010ffff",
        "\u00e9",
    ]
    return [json.dumps({"name": text}).encode() for text in texts] + [
        b'{"name": %s}' % value.encode() for value in HOSTILE_VALUES
    ]
