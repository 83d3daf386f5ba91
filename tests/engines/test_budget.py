"""A budget is never passed, whatever requests cost, lose or need."""

import asyncio
import random

import pytest
from patience import patience

from localemp.dialogue import Message
from localemp.engines.base import TURN, Completion, Engine
from localemp.engines.budget import Budget, BudgetedEngine
from localemp.engines.spending import Ledger, attempt, charge
from localemp.errors import BudgetError, EngineError, OptionError
from localemp.models.price import Price
from localemp.pipeline.shared_answers import SharedAnswers
from localemp.protocol.completions import Usage
from localemp.sampling import Sampling
from localemp.utils.together import together

PRICE = Price.model_validate(
    {"prompt": 1.0, "completion": 2.0, "as_of": "2026-11-30", "batch": 0.5, "priority": 2.0, "flex": 0.5}
)
HELLO = [Message("user", "Hello!")]
# 6 bytes and 16 tokens around the message and 16 around all, and ten of the completion
MOST = (6 + 32) * 1.0e-6 + 10 * 2.0e-6


class LostError(EngineError):
    """The answer was lost on the way."""


class Service(Engine):
    """Bills what it is asked, and loses some answers."""

    name = "service"

    def __init__(self, lost=0.0, tier="", seed=0, tokens=(6, 10)):
        self.billed, self.sent, self.most_at_once, self.at_once = 0.0, 0, 0, 0
        self.lost, self.tier, self.tokens, self.random = lost, tier, tokens, random.Random(seed)

    async def chat(self, messages, sampling):
        for _ in range(4):
            try:
                with attempt(lambda error: isinstance(error, LostError)):
                    return await self.answer()
            except LostError:
                continue
        raise EngineError("no answer")

    async def answer(self):
        self.sent += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        usage = Usage(self.random.randint(1, self.tokens[0]), self.random.randint(1, self.tokens[1]))
        cost = PRICE.of(usage, self.tier)
        self.billed += cost
        if self.random.random() < self.lost:
            raise LostError("lost")
        charge(usage, cost, "stop", tier=self.tier)
        return Completion("Oh.", "stop", usage.prompt_tokens, usage.completion_tokens, cost=cost, tier=self.tier)

    def describe(self):
        return {}


async def ask_many(service, budget, number=200, stages=1, tier=None, at_once=20):
    """Ask, and return how many dialogues were answered."""
    engine, done, ledger = BudgetedEngine(service, budget, PRICE, tier), [], Ledger()
    places = iter(range(number))

    async def worker():
        for place in places:
            TURN.set(place)
            with ledger.account():
                for _ in range(stages):
                    await engine.chat(HELLO, Sampling(max_tokens=10))
                done.append(place)

    try:
        await together(worker() for _ in range(at_once))
    finally:
        assert ledger.under_way == pytest.approx(0, abs=1e-12)
    return len(done)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("lost", [0.0, 0.3])
async def test_a_budget_is_never_passed(seed, stages, lost):
    service, budget = Service(lost, seed=seed), Budget(40 * MOST)
    with pytest.raises(BudgetError):
        await ask_many(service, budget, stages=stages)
    assert service.billed <= 40 * MOST
    assert budget.held == 0
    assert budget.spent >= service.billed - 1e-12
    assert budget.limit - budget.spent < MOST, "what is left is too little for one more request"


async def test_a_budget_that_suffices_answers_all():
    service = Service()
    assert await ask_many(service, Budget(200 * MOST)) == 200
    assert service.most_at_once == 20


async def test_a_budget_ends_also_for_who_waits_for_the_answer_of_another():
    budget, ledger, greedy = Budget(2 * MOST), Ledger(), Sampling(max_tokens=10)
    shared = SharedAnswers(BudgetedEngine(Service(tokens=(1, 1)), budget, PRICE, "default"))

    async def dialogue(name):
        with ledger.account():
            for question in (name, "Both ask this, which is too long. " * 5):
                await shared.asking(name).chat([Message("user", question)], greedy)

    async with asyncio.timeout(patience(10)):
        with pytest.raises(BudgetError):
            await together(dialogue(name) for name in ("a", "b"))


async def test_what_the_requests_under_way_may_cost_is_held():
    service = Service()
    with pytest.raises(BudgetError):
        await ask_many(service, Budget(3.5 * MOST), tier="default")
    assert service.most_at_once == 3


async def test_a_budget_that_is_too_small_asks_nothing():
    service = Service()
    with pytest.raises(
        BudgetError, match=r"the budget of 0.00001 US dollars is too small: 0.000000 spent, 0.000010 left"
    ):
        await ask_many(service, Budget(1e-5))
    assert service.sent == 0


async def test_dialogues_that_began_are_finished_first():
    service, budget = Service(tokens=(6, 1)), Budget(12 * MOST)
    engine, order, ledger = BudgetedEngine(service, budget, PRICE, "default"), [], Ledger()

    async def dialogue(number):
        TURN.set(number)
        with ledger.account():
            for stage in range(2):
                await engine.chat(HELLO, Sampling(max_tokens=10))
                order.append((number, stage))

    await together(dialogue(number) for number in range(12))
    places = {each: place for place, each in enumerate(order)}
    assert all(places[0, 1] < places[later, 1] for later in range(1, 12))


async def test_earlier_sessions_count():
    service, budget = Service(), Budget(10 * MOST)
    budget.add_earlier(9.5 * MOST)
    assert budget.left == pytest.approx(0.5 * MOST)
    with pytest.raises(BudgetError):
        await ask_many(service, budget)
    assert service.sent == 0


@pytest.mark.parametrize(
    ("tier", "asked", "most"),
    [
        pytest.param(None, 1, 2 * MOST, id="any-tier-until-one-answers"),
        pytest.param("default", 1, MOST, id="ordinary"),
        pytest.param("flex", 1, MOST, id="flex-can-fall-back"),
        pytest.param("priority", 1, 2 * MOST, id="priority"),
        pytest.param("batch", 1, MOST / 2, id="batch"),
        pytest.param(None, 2, MOST, id="after-an-ordinary-answer"),
    ],
)
async def test_the_most_that_a_request_costs_depends_on_its_tier(tier, asked, most):
    held, budget = [], Budget(1.0)

    class Watched(Service):
        async def answer(self):
            held.append(budget.held)
            return await super().answer()

    engine = BudgetedEngine(Watched(), budget, PRICE, tier)
    for _ in range(asked):
        await engine.chat(HELLO, Sampling(max_tokens=10))
    assert held[-1] == pytest.approx(most)


async def test_a_cancelled_request_may_have_been_billed():
    started = asyncio.Event()

    class Slow(Service):
        async def answer(self):
            started.set()
            await asyncio.Event().wait()

    budget, ledger = Budget(1.0), Ledger()
    engine = BudgetedEngine(Slow(), budget, PRICE, "default")
    with ledger.account() as account:
        task = asyncio.create_task(engine.chat(HELLO, Sampling(max_tokens=10)))
        await started.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (account.unanswered, account.at_risk) == (1, pytest.approx(MOST))
    assert (budget.held, budget.spent) == (0, pytest.approx(MOST))


async def test_an_answer_of_unknown_cost_counts_as_the_most_that_it_can_be():
    class Silent(Engine):
        name = "silent"

        async def chat(self, messages, sampling):
            return Completion("Oh.", "stop")

        def describe(self):
            return {}

    budget = Budget(1.0)
    await BudgetedEngine(Silent(), budget, PRICE, "default").chat(HELLO, Sampling(max_tokens=10))
    assert budget.spent == pytest.approx(MOST)


async def test_thousands_that_wait_are_let_go_in_no_time():
    service, budget = Service(tokens=(1, 1)), Budget(3000 * MOST)
    assert await ask_many(service, budget, 5000, tier="batch", at_once=5000) == 5000
    with pytest.raises(BudgetError):
        await ask_many(service, Budget(100 * MOST), 5000, tier="default", at_once=5000)


@pytest.mark.parametrize("limit", [0, -3, float("nan"), float("inf")], ids=["zero", "negative", "nan", "infinite"])
def test_a_limit_is_an_amount_above_0(limit):
    with pytest.raises(OptionError, match="not an amount above 0"):
        Budget(limit)
