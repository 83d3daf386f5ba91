"""What judges cost, and what they may."""

import pytest
from hosted import HostedService, Outcome
from priced import priced_profile as profile
from small_study import small_study

import localemp
from localemp.errors import BudgetError


def test_a_judge_has_a_bill_and_a_budget(tmp_path):
    study = small_study(tmp_path / "study", items=4)

    def rule(body):
        story = str(body["messages"])
        return Outcome(text="", finish_reason="length", reasoning=30) if "2th" in story else '{"choice": "A"}'

    with HostedService(rule=rule, latency=0.01) as service:
        model = profile(tmp_path / "mine.toml", service)
        with pytest.raises(BudgetError, match="is used up") as stopped:
            localemp.study.judge(study.folder, model=model, budget=0.0005, answers="written")
        assert "of 24 questions are left" in stopped.value.hint
        assert service.bill.total <= 0.0005
        found = localemp.study.judge(study.folder, model=model, answers="written")
        assert found.failed == 6
        assert found.bill.paid == pytest.approx(service.bill.total, rel=1e-12)
        again = localemp.study.judge(study.folder, model=model, answers="written")
        assert again.bill.paid == pytest.approx(service.bill.total, rel=1e-12), "asked again, and paid again"
        assert again.bill.failed > found.bill.failed > 0
        assert again.tally.bill.paid == again.tally.bill.failed
