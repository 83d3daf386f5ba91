"""Batches are made of what a budget has room for, and are billed once."""

import asyncio

import pytest
from batch_engines import MODEL, QUICK, batch_engine, until
from hosted import HostedService, Shares

from localemp.dialogue import Message
from localemp.engines.budget import Budget, BudgetedEngine
from localemp.engines.spending import Account, Ledger
from localemp.errors import BudgetError, EngineError
from localemp.models.price import Price
from localemp.models.profiles import load_profile
from localemp.sampling import Sampling

PRICE = load_profile(MODEL).price
assert PRICE is not None
TEXTS = [f"I lost my job, for the {number}th time." for number in range(30)]


async def answer_all(service: HostedService, folder, budget: Budget, price: Price = PRICE) -> list[Account]:
    """Ask all, each as a dialogue of its own; their accounts."""
    ledger = Ledger()
    async with BudgetedEngine(batch_engine(service, folder, price=price), budget, price, "batch") as engine:

        async def ask(text: str) -> Account:
            with ledger.account() as account:
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


def test_a_batch_that_an_earlier_process_left_under_way_is_paid_from_the_budget(tmp_path):
    """New requests have no money that its answers will cost."""
    budget = 8 * MOST
    with HostedService() as service:

        async def killed() -> None:
            task = asyncio.create_task(answer_all(service, tmp_path, Budget(budget)))
            await until(lambda: service.batches.all or task.done())
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(killed())
        assert len(service.batches.all) == 1

        async def go_on() -> Budget:
            """Ask other things first."""
            money = Budget(budget)
            engine = BudgetedEngine(batch_engine(service, tmp_path, price=PRICE), money, PRICE, "batch")
            async with engine:
                assert money.spent >= 7 * MOST
                new = asyncio.create_task(engine.chat([Message("user", "Something new.")], Sampling(max_tokens=200)))
                old = [engine.chat([Message("user", text)], Sampling(max_tokens=20)) for text in TEXTS[:8]]
                asked = asyncio.gather(new, *old, return_exceptions=True)
                await until(lambda: money.held > 6 * MOST)
                service.advance(to="completed")
                found = await asked
            assert isinstance(found[0], BudgetError)
            assert not [each for each in found[1:] if isinstance(each, BaseException)]
            return money

        money = asyncio.run(go_on())
        assert service.bill.requests == 8
        assert service.bill.total <= money.spent <= budget
