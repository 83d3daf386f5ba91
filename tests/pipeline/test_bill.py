"""What runs cost: their own bill against that of a service which counts by itself."""

import contextlib
import json
import shlex
import signal

import pytest
from command import Localemp
from hosted import Faults, HostedService, Outcome, Shares
from patience import patience, wait_until
from priced import priced_profile as profile

import localemp
from localemp.errors import BudgetError, OptionError
from localemp.pipeline.going_on import command_with, needed_in_all
from localemp.runs.bill import Bill
from localemp.runs.run import RESPONSES, read_bill, read_manifest


@pytest.fixture
def mine(tmp_path):
    return tmp_path / "mine.toml"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


def lines(folder):
    return [json.loads(line) for line in (folder / RESPONSES).read_text().splitlines()]


def generate(model, out, **settings):
    return localemp.generate(model=model, data="samples", limit=8, out=out, **settings)


@pytest.mark.parametrize("strategy", ["zero-shot", "two-stage"])
@pytest.mark.parametrize("tier", [None, "priority"])
def test_the_bill_is_the_services(mine, out, strategy, tier):
    shares = Shares(refused=0.1, filtered=0.2, downgraded=0.4 if tier else 0)
    with HostedService(shares=shares, seed=3) as service:
        result = generate(profile(mine, service), out, strategy=strategy, service_tier=tier)
        assert result.failed > 0
        assert result.bill.paid == pytest.approx(service.bill.total, rel=1e-12)
        assert result.tally.bill == result.bill
        assert 0 < result.bill.failed < result.bill.paid
        assert result.bill.answers == service.bill.requests
        failed = [line for line in lines(out) if "error" in line]
        assert sum(each["cost"] for line in failed for each in line["paid"]) == pytest.approx(result.bill.failed)
        told = read_manifest(out)["sessions"][-1]["bill"]
        assert (told["paid"], told["unfinished"]["answers"]) == (result.bill.paid, 0)
    if tier:
        tiers = {stage.get("tier", "") for line in lines(out) for stage in line.get("stages", ())}
        assert tiers == {"", "priority"}, "some were served as ordinary ones, and say so"


def test_a_second_stage_that_fails_has_the_price_of_the_first_in_its_line(mine, out):
    def rule(body):
        return Outcome(text="", finish_reason="content_filter") if "They feel lost." in str(body) else "They feel lost."

    with HostedService(rule=rule) as service:
        result = generate(profile(mine, service), out, strategy="two-stage")
        assert (len(result.answered), result.failed) == (0, 8)
        assert all([each["stage"] for each in line["paid"]] == ["feeling", "reply"] for line in lines(out))
        assert result.bill.paid == result.bill.failed == pytest.approx(service.bill.total, rel=1e-12)


def test_all_sessions_add_up_and_a_retry_is_paid_again(mine, out):
    broken = [True]

    def rule(body):
        return Outcome(text="", finish_reason="length", reasoning=40) if broken[0] else None

    with HostedService(rule=rule) as service:
        model = profile(mine, service)
        assert generate(model, out).failed == 8
        broken[0] = False
        first = service.bill.total
        again = generate(model, out, retry_errors=True)
        assert again.tally.bill.paid == pytest.approx(service.bill.total - first, rel=1e-12)
        assert again.bill.paid == pytest.approx(service.bill.total, rel=1e-12)
        assert again.bill.failed == pytest.approx(first, rel=1e-12)
        assert read_bill(out) == again.bill


def test_answers_that_are_lost_on_the_way_may_have_been_billed(mine, out):
    with HostedService(faults=Faults({"cut": 0.4, "reset": 0.2}, seed=5)) as service:
        result = generate(profile(mine, service), out)
        lost = [each for each in service.log if each.fault in ("cut", "reset")]
        assert result.bill.unanswered == len(lost) > 0
        assert result.bill.paid == pytest.approx(service.bill.total - sum(each.dollars for each in lost), rel=1e-12)
        assert service.bill.total <= result.bill.most
        (told,) = (line for line in result.bill.lines() if "got no answer" in line)
        assert f"{len(lost)} requests got no answer; the service may have billed them, at most" in told


@pytest.mark.parametrize("strategy", ["zero-shot", "two-stage"])
@pytest.mark.parametrize("budget", [0.00003, 0.0004, 0.0008])
def test_a_budget_is_never_passed_and_the_rest_is_answered_later(mine, out, strategy, budget):
    with HostedService(faults=Faults({"cut": 0.1, "reset": 0.1}, seed=1), latency=0.01) as service:
        model = profile(mine, service)
        with pytest.raises(BudgetError) as stopped:
            generate(model, out, strategy=strategy, budget=budget)
        assert service.bill.total <= budget
        assert f"the budget of {budget:.5f}".rstrip("0") in stopped.value.message
        assert "of 8 dialogues are left" in stopped.value.hint
        before = service.bill.total
        with pytest.raises(BudgetError):
            generate(model, out, strategy=strategy, budget=budget)
        assert service.bill.total <= budget, "what was paid before counts"
        assert service.bill.total >= before
        done = generate(model, out, strategy=strategy, budget=1)
        assert (len(done.answered), done.failed) == (8, 0)
        assert service.bill.total <= done.bill.most
        assert done.bill.paid <= service.bill.total + 1e-12


def test_a_budget_that_is_enough_changes_nothing(mine, out, tmp_path):
    with HostedService() as service:
        model = profile(mine, service)
        one = generate(model, out, budget=1)
        other = generate(model, tmp_path / "other")
        same, others = ({line["id"]: line["reply"] for line in lines(run)} for run in (out, tmp_path / "other"))
        assert same == others
        assert one.bill.paid == pytest.approx(other.bill.paid)


@pytest.mark.parametrize("budget", [0, -1, float("nan"), float("inf")], ids=["zero", "negative", "nan", "infinite"])
def test_a_budget_is_an_amount(mine, out, budget):
    with HostedService() as service:
        with pytest.raises(OptionError, match="--budget"):
            generate(profile(mine, service), out, budget=budget)
        assert not service.log


def test_a_budget_needs_prices(mine, out):
    with HostedService() as service:
        with pytest.raises(OptionError, match="no price of mine is known"):
            generate(profile(mine, service, prices=""), out, budget=1)
        with pytest.raises(OptionError, match="no price of mine in the flex tier is known"):
            generate(profile(mine, service), out, budget=1, service_tier="flex")
        assert not service.log


def test_answers_without_a_known_price_are_called_unpriced(mine, out):
    with HostedService() as service:
        result = generate(profile(mine, service, prices=""), out)
    assert (result.bill.paid, result.bill.unpriced) == (0, 8)
    assert result.bill.lines("the run") == ["cost of the run: unpriced; no price of 8 answers is known"]
    assert result.tally.bill.lines() == ["cost: unpriced; no price of 8 answers is known"]
    assert "unpriced (no list price of mine is known)" in result.estimate.line
    assert Bill(unpriced=8).lines() == [], "a model that runs here costs nothing"


def test_a_session_that_was_killed_counts_as_the_most_that_it_may_have_paid():
    bill = Bill()
    bill.take_session({"bill": {"under_way_at_most": 0.25}})
    assert (bill.paid, bill.most) == (0, 0.25)
    assert bill.lines() == ["a session was killed; it may have paid up to 0.2500 US dollars more"]
    for odd in (None, 3, [], {"under_way_at_most": "much"}, {"unfinished": {"paid": -1, "unanswered": 7}}):
        bill.take_session({"bill": odd})
    assert bill.most == 0.25


@pytest.mark.parametrize("odd", [None, 3, True, "x", {"a": 1}, [1], [None, [2]], {"cost": 1.0}], ids=repr)
def test_a_line_that_was_edited_is_counted_as_far_as_it_makes_sense(odd):
    bill = Bill()
    bill.take({"id": "a", "reply": "Oh.", "stages": odd, "paid": [odd, {"cost": 0.5, "tier": odd}]})
    bill.take({"id": "a", "error": odd, "paid": odd, "unanswered": odd})
    assert bill.paid == (1.5 if odd == {"cost": 1.0} else 0.5)


def test_an_answer_of_a_batch_that_arrives_again_is_paid_once():
    bill = Bill()
    answer = {"cost": 0.5, "response_id": "chatcmpl-1", "prompt_tokens": 1, "completion_tokens": 1}
    bill.take({"id": "a", "error": {}, "paid": [answer]})
    bill.take({"id": "a", "reply": "Oh.", "stages": [answer, answer | {"response_id": "chatcmpl-2"}]})
    assert (bill.paid, bill.answers) == (1.0, 2)
    later = bill.of_what_follows()
    later.take({"id": "b", "error": {}, "paid": [answer, answer | {"response_id": "chatcmpl-3"}]})
    assert (later.paid, later.answers) == (0.5, 1)


def test_how_to_go_on():
    error = BudgetError(1.0, 0.96, 0.05)
    assert needed_in_all(error, 48, 52) == 2.2  # 0.96 + 1.1 * 52 * 0.02 + 0.05 = 2.154
    assert needed_in_all(BudgetError(0.01, 0.0, 0.05), 0, 10) == 0.6  # 1.1 * 10 * 0.05 + 0.05
    command = "localemp generate --budget 1 --model gpt --budget=3 --limit 5"
    assert command_with(2.2, command) == "localemp generate --model gpt --limit 5 --budget 2.2"
    assert command_with(2.2, "python mine.py") == "the same call with budget=2.2"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_sessions_that_end_early_cannot_pass_the_budget_together(mine, out, tmp_path, end):
    """What was under way, or paid for dialogues without a line, counts in the next session."""
    budget = 0.004
    with HostedService(latency=0.05) as service:
        model = profile(mine, service)
        words = ("generate", "--model", model, "--strategy", "two-stage", "--out", out, "--concurrency", 3)
        for session in range(2):
            process = Localemp(tmp_path).start(*words, "--limit", 8, "--budget", budget)
            answers = len(service.completions_of()) + 2 + session
            wait_until(lambda least=answers: len(service.completions_of()) >= least, process=process)
            process.send_signal(end)
            process.communicate(timeout=patience())
            assert process.returncode not in (0, 1, 2)
            assert service.bill.total <= read_bill(out).most <= budget
        bill = read_bill(out)
        assert bill.at_risk > 0
        with contextlib.suppress(BudgetError):
            generate(model, out, strategy="two-stage", budget=budget)
        assert service.bill.total <= budget
        done = generate(model, out, strategy="two-stage", budget=1)
        assert service.bill.total <= done.bill.most
        assert ("a session was killed" if end == signal.SIGKILL else " got no answer") in done.bill.lines()[-1]


def test_candidates_of_which_one_fails_are_all_paid(tmp_path, mine, out):
    flow = tmp_path / "best.toml"
    flow.write_text(
        'about = "Best of three"\n[[stages]]\nname = "reply"\nask = "Reply."\nn = 3\nsampling = {temperature = 0.7}\n'
        'choose = {ask = "Which is best?\\n{candidates}"}\n'
    )
    with HostedService(shares=Shares(filtered=0.3), seed=2) as service:
        result = generate(profile(mine, service), out, strategy=str(flow), temperature=0.7)
        assert result.bill.paid == pytest.approx(service.bill.total, rel=1e-12)


def test_the_command_says_what_was_paid_and_how_to_go_on(tmp_path, mine):
    with HostedService(shares=Shares(filtered=0.3), seed=3, latency=0.01) as service:
        words = ("generate", "--model", profile(mine, service), "--limit", 8, "--out", "run", "--show", 0)
        localemp = Localemp(tmp_path)
        stopped = localemp(*words, "--budget", 0.0004)
        assert stopped.returncode == 1
        assert "error: the budget of 0.0004 US dollars is used up: 0.000" in stopped.stderr
        assert "of 8 dialogues are left" in stopped.stderr
        assert (
            f"to go on: localemp generate --model {mine} --limit 8 --out run --show 0 --budget 0.00" in stopped.stderr
        )
        command = stopped.stderr.partition("to go on: localemp ")[2].partition("\n")[0]
        done = localemp(*shlex.split(command))
        assert "is used up" not in done.stderr
        (now,) = (line for line in done.stdout.splitlines() if line.startswith("cost: "))
        assert "of it for replies that failed" in now
        total = f"cost of the run, all sessions: {service.bill.total:.6f} US dollars"
        assert total in done.stdout
        (failed, *_) = (line for line in lines(tmp_path / "run") if "error" in line)
        shown = localemp("runs", "show", "run", "--errors", "--id", failed["id"]).stdout
        assert f"cost: {failed['paid'][0]['cost']:.6f} US dollars" in shown
        assert f"cost: {service.bill.total:.6f} US dollars" in localemp("runs", "show", "run").stdout
        estimate = localemp(*words[:-4], "--estimate", "--budget", 0.0002, "--out", "other")
        assert "the budget is enough for about " in estimate.stdout
        refused = localemp(*words, "--budget", 0)
        assert (refused.returncode, refused.stderr.splitlines()[0]) == (2, "error: --budget 0: not an amount above 0")
