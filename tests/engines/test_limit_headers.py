import pytest

from localemp.engines.openai.limit_headers import Allowance, read_allowances

NOW = 1_796_040_000.0  # 2026-11-30T12:00:00Z
OPENAI = {
    "x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499",
    "x-ratelimit-reset-requests": "120ms", "x-ratelimit-limit-tokens": "30000",
    "x-ratelimit-remaining-tokens": "29000", "x-ratelimit-reset-tokens": "6m0s",
}  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        pytest.param(
            OPENAI,
            [
                Allowance("requests", "requests", 500, 499, 0.12, None),
                Allowance("tokens", "tokens", 30000, 29000, 360.0, None),
            ],
            id="openai",
        ),
        pytest.param(
            {"x-ratelimit-limit-requests": "14400", "x-ratelimit-reset-requests": "2m59.56s"},
            [Allowance("requests", "requests", 14400, None, 179.56, None)],
            id="groq",
        ),
        pytest.param(
            {"x-ratelimit-remaining-requests": "19", "x-ratelimit-remaining-tokens": "19913"},
            [
                Allowance("requests", "requests", None, 19, None, None),
                Allowance("tokens", "tokens", None, 19913, None, None),
            ],
            id="azure",
        ),
        pytest.param(
            {"x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "0"},
            [],
            id="azure_without_limit",
        ),
        pytest.param(
            {
                "x-ratelimit-limit-requests-day": "14400", "x-ratelimit-remaining-requests-day": "9500",
                "x-ratelimit-reset-requests-day": "33011.38", "x-ratelimit-limit-tokens-minute": "60000",
            },
            [
                Allowance("requests-day", "requests", 14400, 9500, 33011.38, 86400.0),
                Allowance("tokens-minute", "tokens", 60000, None, None, 60.0),
            ],
            id="cerebras",
        ),
        pytest.param(
            {"x-ratelimit-limit-req-minute": "60", "x-ratelimit-remaining-req-minute": "59"},
            [Allowance("req-minute", "requests", 60, 59, None, 60.0)],
            id="mistral",
        ),
        pytest.param(
            {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW * 1000) + 7500)},
            [Allowance("requests", "requests", 20, 0, 7.5, None)],
            id="openrouter",
        ),
        pytest.param(
            {
                "anthropic-ratelimit-input-tokens-limit": "80000",
                "anthropic-ratelimit-input-tokens-remaining": "79000",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-30T12:00:45Z",
                "anthropic-ratelimit-output-tokens-limit": "16000",
            },
            [
                Allowance("input-tokens", "prompt tokens", 80000, 79000, 45.0, None),
                Allowance("output-tokens", "completion tokens", 16000, None, None, None),
            ],
            id="anthropic",
        ),
        pytest.param(
            {"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "50"},
            [Allowance("requests", "requests", 100, 50, None, None)],
            id="ietf",
        ),
        pytest.param({"content-type": "x", "x-ratelimit-limit-tokens_usage_based": "5"}, [], id="others"),
    ],
)  # fmt: skip
def test_the_spellings_of_services(headers: dict[str, str], told: list[Allowance]) -> None:
    assert read_allowances(headers, NOW) == told


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20ms", 0.02), ("1h2m3.5s", 3723.5), ("1d2h", 93600.0), ("0", 0.0), ("45", 45.0), ("12µs", 12e-6),
        (str(int(NOW) + 5), 5.0), ("2026-11-30T12:00:30+00:00", 30.0), ("2026-11-30T13:00:30+01:00", 30.0),
        ("2026-11-30T11:59:59Z", 0.0),
    ],
)  # fmt: skip
def test_times_until_reset(text: str, seconds: float) -> None:
    (told,) = read_allowances({"x-ratelimit-limit-requests": "5", "x-ratelimit-reset-requests": text}, NOW)
    assert told.reset == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "nan", "inf", "-1", "-5s", "1e9", "9" * 5000, "9" * 15, "soon", "6m x", "s", "1y", "0x7", "\xb2", "2026-11-30",
     "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "2020-01-01T00:00:00Z", "Mon, 30 Nov 2026 12:00:30 GMT"],
)  # fmt: skip
def test_what_makes_no_sense_is_as_if_it_was_not_sent(text: str) -> None:
    (told,) = read_allowances({"x-ratelimit-limit-requests": "5", "x-ratelimit-reset-requests": text}, NOW)
    assert told.reset is None or told.reset == 0
    counts = {"x-ratelimit-limit-tokens": text, "x-ratelimit-remaining-tokens": text}
    assert all(each.limit is not None for each in read_allowances(counts, NOW))


def test_no_more_can_remain_than_the_limit() -> None:
    (told,) = read_allowances({"x-ratelimit-limit-requests": "5", "x-ratelimit-remaining-requests": "9"}, NOW)
    assert told.remaining == 5
