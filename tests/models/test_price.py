"""What an answer costs in each tier: values computed by hand."""

import pytest

from localemp.errors import ProfileError
from localemp.models.price import Price, billed_tier
from localemp.models.profiles import list_profiles, read_profile
from localemp.protocol.completions import Usage, read_usage

PRICE = Price.model_validate(
    {
        "prompt": 1.0,
        "completion": 5.0,
        "cached": 0.05,
        "cache_write": 1.25,
        "as_of": "2026-10-26",
        "batch": 0.5,
        "priority": {"prompt": 2.0, "completion": 10.0},
    }
)


@pytest.mark.parametrize(
    ("tier", "cost"),
    [
        # 10,000 fresh + 20,000 read + 70,000 written prompt tokens, 4,000 of the completion
        pytest.param("", (10_000 * 1.0 + 20_000 * 0.05 + 70_000 * 1.25 + 4_000 * 5.0) / 1e6, id="standard"),
        pytest.param("batch", (10_000 * 0.5 + 20_000 * 0.025 + 70_000 * 0.625 + 4_000 * 2.5) / 1e6, id="batch"),
        pytest.param("priority", (100_000 * 2.0 + 4_000 * 10.0) / 1e6, id="priority"),
        pytest.param("flex", None, id="flex-unknown"),
        pytest.param("scale", None, id="scale-unknown"),
    ],
)
def test_an_answer_costs_what_its_tier_does(tier, cost):
    counts = Usage(100_000, 4_000, cached_tokens=20_000, cache_write_tokens=70_000)
    assert PRICE.of(counts, tier) == (None if cost is None else pytest.approx(cost, rel=1e-12))


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param(Usage(), id="nothing"),
        pytest.param(Usage(10), id="no-completion"),
        pytest.param(Usage(completion_tokens=10), id="no-prompt"),
    ],
)
def test_an_answer_without_counts_is_unpriced(counts):
    assert PRICE.of(counts) is None


def test_counts_that_exceed_the_prompt_are_cut():
    assert PRICE.of(Usage(100, 0, cached_tokens=80, cache_write_tokens=90)) == pytest.approx(
        (80 * 0.05 + 20 * 1.25) / 1e6
    )


def test_the_most_is_the_dearest_tier_and_the_dearest_kind_of_token():
    assert PRICE.most_in(1000, 100, ["", "batch"]) == pytest.approx((1000 * 1.25 + 100 * 5.0) / 1e6)
    assert PRICE.most_in(1000, 100, ["", "priority"]) == pytest.approx((1000 * 2.0 + 100 * 10.0) / 1e6)
    assert PRICE.most_in(1000, 100, ["flex"]) is None


def test_a_recorded_price_reads_back_and_so_does_one_of_an_older_version():
    assert Price(**PRICE.describe()) == PRICE
    old = {"prompt": 0.15, "completion": 0.6, "as_of": "2026-03-21", "cached": 0.075, "batch": 0.5}
    assert Price(**old).of(Usage(1_000_000, 100_000), "batch") == pytest.approx(0.075 + 0.03)


@pytest.mark.parametrize(
    ("said", "asked", "tier"),
    [
        ("default", "flex", ""),
        ("flex", None, "flex"),
        (None, "priority", "priority"),
        ("", "auto", ""),
        ("standard", None, ""),
        ("on_demand", None, ""),
        ("scale", None, "scale"),
        ("priority", "default", "priority"),
        ("fast", "priority", "priority"),
    ],
)
def test_the_response_says_the_tier_else_the_request(said, asked, tier):
    assert billed_tier(said, asked) == tier


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        pytest.param("batch = 2", "batch: 2 is neither a share", id="too-large"),
        pytest.param("batch = 0", "batch: 0 is neither a share", id="zero"),
        pytest.param('flex = "half"', "flex: 'half' is neither a share", id="a-word"),
        pytest.param("batch = nan", "batch: nan is neither a share", id="nan"),
        pytest.param("flex = {prompt = 1}", "flex.completion: missing key", id="half-a-table"),
        pytest.param("flex = {prompt = 1, completion = -1}", "flex.completion", id="negative"),
        pytest.param("cached = 1e308", "cached", id="huge"),
        pytest.param("night = 0.5", "night: unknown key", id="unknown-tier"),
    ],
)
def test_a_wrong_price_names_its_key(tmp_path, line, problem):
    path = tmp_path / "mine.toml"
    path.write_text(
        'kind = "chat"\nengine = "openai"\nmodel = "mine"\n[price]\nprompt = 1.0\ncompletion = 2.0\n'
        f"as_of = 2026-11-30\n{line}\n"
    )
    with pytest.raises(ProfileError, match=f"price(.*){problem}"):
        read_profile(path)


@pytest.mark.parametrize(
    "details",
    [
        {"prompt_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 30}},
        {"prompt_tokens_details": {"cached_tokens": 10, "cache_creation_tokens": 30}},
        {"prompt_cache_hit_tokens": 10, "prompt_tokens_details": {"cache_write_tokens": 30}},
    ],
    ids=["openai", "litellm", "deepseek"],
)
def test_services_name_cached_tokens_in_their_own_ways(details):
    usage = read_usage({"prompt_tokens": 100, "completion_tokens": 5, **details})
    assert (usage.cached_tokens, usage.cache_write_tokens) == (10, 30)


def test_prices_of_tiers_are_plausible():
    for profile in list_profiles():
        if (price := profile.price) is not None:
            for tier, low, high in (("batch", 0.4, 1), ("flex", 0.4, 1), ("priority", 1.2, 3)):
                if (rates := price.rates(tier)) is not None:
                    assert low <= rates.prompt / price.prompt <= high, (profile.name, tier)
