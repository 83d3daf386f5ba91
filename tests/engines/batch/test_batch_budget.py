"""Batches are made of what a budget has room for, and are billed once."""

import asyncio

import pytest
from batch_engines import MODEL, QUICK, batch_engine
from hosted import HostedService, Shares

from localemp.dialogue import Message
from localemp.engines.budget import Budget, BudgetedEngine
from localemp.engines.spending import Account, Purse
from localemp.errors import BudgetError, EngineError
from localemp.models.price import Price
from localemp.models.profiles import load_profile
from localemp.sampling import Sampling

PRICE = load_profile(MODEL).price
assert PRICE is not None
TEXTS = [f"I lost my job, for the {number}th time." for number in range(30)]


async def answer_all(service: HostedService, folder, budget: Budget, price: Price = PRICE) -> list[Account]:
    """Ask all, each as a dialogue of its own; their accounts."""
    purse = Purse()
    async with BudgetedEngine(batch_engine(service, folder, price=price), budget, price, "batch") as engine:

        async def ask(text: str) -> Account:
            with purse.account() as account:
                try:
                    await engine.chat([Message("user", text)], Sampling(max_tokens=20))
                except BudgetError:
                    raise
                except EngineError:
                    pass  # it was filtered
            return account

        found = await asyncio.gather(*map(ask, TEXTS), return_exceptions=True)
    if stopped := [each for each in found if isinstance(each, BaseException)]:
        raise stopped[0]
    return [each for each in found if isinstance(each, Account)]


# 32 bytes, 16 tokens around the message and 16 around all at 0.075 dollars a million, 20 of the completion at 0.3
MOST = ((32 + 32) * 0.075 + 20 * 0.3) / 1e6


def paid(accounts: list[Account]) -> float:
    return sum(answer.cost or 0.0 for account in accounts for answer in account.answers)


def test_a_budget_makes_several_batches_and_is_not_passed(tmp_path):
    with HostedService(pace=QUICK, shares=Shares(filtered=0.2), seed=1) as service:
        accounts = asyncio.run(answer_all(service, tmp_path, Budget(20 * MOST)))
        assert len(service.batches.all) > 1
        assert service.bill.of(MODEL, "batch").requests == 30
        assert paid(accounts) == pytest.approx(service.bill.total, rel=1e-12)
        assert service.bill.total <= 20 * MOST
        names = [answer.response_id for account in accounts for answer in account.answers]
        assert len(set(names)) == 30


def test_a_budget_that_ends_keeps_answers_which_a_rerun_finds(tmp_path):
    with HostedService(pace=QUICK) as service:
        with pytest.raises(BudgetError):
            asyncio.run(answer_all(service, tmp_path, Budget(5 * MOST)))
        assert 5 <= service.bill.requests < 30
        assert service.bill.total <= 5 * MOST
        accounts = asyncio.run(answer_all(service, tmp_path, Budget(1.0)))
        assert service.bill.requests == 30
        assert paid(accounts) == pytest.approx(service.bill.total, rel=1e-12), "what was found again was billed before"
