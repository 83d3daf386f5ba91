"""What experiments cost: one budget for all models, and a bill for each row."""

import pytest
from hosted import HostedService, Shares
from priced import priced_profile as profile

import localemp


def small_plan(folder, *models, **fields):
    rows = [{"name": "0-shot", "strategy": "zero-shot"}, {"name": "staged", "strategy": "two-stage"}]
    settings = {"data": "samples", "limit": 6, "models": list(models), "rows": rows}
    return localemp.Plan(**{**settings, "after": {"score": False, "report": False}, **fields})


def test_an_experiment_has_one_budget_for_all_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with HostedService(latency=0.01) as service:
        models = [profile(tmp_path / "one.toml", service), profile(tmp_path / "two.toml", service)]
        plan = small_plan(tmp_path, *models, budget=0.0012)
        found = localemp.experiment(plan, out="e")
        assert not found.complete
        assert service.bill.total <= 0.0012
        assert sum(row.bill.paid for row in found.rows) == pytest.approx(service.bill.total, rel=1e-12)
        stopped = [row for row in found.rows if row.error]
        assert stopped
        assert {row.error.partition(" is used up")[0] for row in stopped} == {"the budget of 0.0012 US dollars"}
        assert {row.retry.partition("=")[0] for row in stopped} == {"the same call with budget"}
        rest = localemp.experiment(plan, out="e", budget=1)
        assert rest.complete
        assert sum(row.bill.paid for row in rest.rows) == pytest.approx(service.bill.total, rel=1e-12)


def test_shared_answers_of_an_experiment_are_paid_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with HostedService(shares=Shares(filtered=0.2), seed=1) as service:
        rows = [{"name": "c", "strategy": "zero-shot"}, {"name": "d", "strategy": "zero-shot", "seed": 5}]
        plan = small_plan(tmp_path, profile(tmp_path / "one.toml", service), rows=rows)
        found = localemp.experiment(plan, out="e")
        assert sum(row.shared for row in found.rows) > 0
        assert sum(row.bill.paid for row in found.rows) == pytest.approx(service.bill.total, rel=1e-12)
