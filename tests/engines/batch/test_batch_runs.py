"""What other commands make of a run by batch: it is a run like any other."""

import json

from batch_engines import MODEL, QUICK
from hosted import HostedService


def test_replies_by_batch_are_those_of_single_requests(localemp, tmp_path):
    with HostedService(pace=QUICK) as service:
        environment = {"OPENAI_BASE_URL": service.url, "OPENAI_API_KEY": "sk-of-a-test"}
        words = ("generate", "--model", MODEL, "--strategy", "two-stage", "--limit", 3)
        for more in (("--batch", "--out", "batch"), ("--out", "single")):
            done = localemp(*words, *more, env=environment)
            assert done.returncode == 0, done.stderr
        asked = service.bill.of(MODEL, "batch").requests
        verified = localemp("runs", "verify", "batch", "--batch-sizes", 4, env=environment)
        assert verified.returncode == 0, verified.stderr
        assert "3 of 3 replies equal" in verified.stdout
        assert service.bill.of(MODEL, "batch").requests == asked == 6, "it is verified by single requests"
    by_batch, single = (lines(tmp_path / name / "responses.jsonl") for name in ("batch", "single"))
    assert {each["id"]: each["reply"] for each in by_batch} == {each["id"]: each["reply"] for each in single}
    assert {stage.get("tier") for each in by_batch for stage in each["stages"]} == {"batch"}
    assert all(stage.get("tier") is None for each in single for stage in each["stages"])


def test_a_run_by_batch_is_finished_by_single_requests(localemp, tmp_path):
    with HostedService(pace=QUICK) as service:
        environment = {"OPENAI_BASE_URL": service.url, "OPENAI_API_KEY": "sk-of-a-test"}
        words = ("generate", "--model", MODEL, "--out", "run")
        assert localemp(*words, "--batch", "--limit", 2, env=environment).returncode == 0
        assert localemp(*words, "--limit", 4, env=environment).returncode == 0
        bill = service.bill
        assert (bill.of(MODEL, "batch").requests, bill.of(MODEL).requests) == (2, 2)
    shown = localemp("runs", "show", "run").stdout
    assert "4 replies, 0 failed" in shown
    assert len(lines(tmp_path / "run" / "responses.jsonl")) == 4


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
