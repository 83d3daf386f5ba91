"""Profiles of hosted models: when they end, what replaces them, and which values they take."""

from datetime import date, timedelta

import pytest

from localemp.errors import OptionError, ProfileError
from localemp.models.profiles import Profile, list_profiles, load_profile, served_profile
from localemp.models.takes import Takes
from localemp.models.thinking_mode import ROOM, thinking_mode

END = date(2027, 1, 14)
HOSTED = 'kind = "chat"\nengine = "openai"\nmodel = "m"\n'


def ending(**fields) -> Profile:
    return Profile(name="old", kind="chat", engine="openai", model="old", shut_down=END, **fields)


def shipped() -> list[Profile]:
    return [profile for profile in list_profiles() if profile.hosted]


@pytest.mark.parametrize(
    ("day", "notice"),
    [
        (END - timedelta(days=45), "the provider shuts down old on 2027-01-14, in 45 days; use new instead"),
        (END - timedelta(days=1), "the provider shuts down old on 2027-01-14, tomorrow; use new instead"),
        (END, "the provider announced that it would shut down old on 2027-01-14; use new instead"),
        (date(2030, 1, 1), "the provider announced that it would shut down old on 2027-01-14; use new instead"),
    ],
    ids=["45 days before", "the day before", "the day", "years later"],
)
def test_a_notice_says_when_a_model_ends_and_what_to_use_instead(day, notice):
    profile = ending(successor="new")
    assert profile.notice_on(day) == notice
    assert profile.is_off_on(day) == (day >= END)


def test_a_notice_needs_a_date_and_names_a_successor_only_if_there_is_one():
    assert Profile(name="m", kind="chat", engine="openai", model="m").notice_on(END) == ""
    assert ending().notice_on(END) == "the provider announced that it would shut down old on 2027-01-14"


def test_a_successor_needs_a_date(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(HOSTED + 'successor = "new"\n')
    with pytest.raises(ProfileError, match="successor: only a model with a date"):
        load_profile(str(path))


def test_every_shipped_model_that_ends_names_one_that_stays():
    profiles = {profile.name: profile for profile in shipped()}
    ends = [profile for profile in profiles.values() if profile.shut_down]
    assert ends
    for profile in ends:
        assert profile.successor in profiles, profile.name
        assert profiles[profile.successor].shut_down is None, profile.name


def test_announced_dates():
    assert load_profile("gpt-4o-mini").shut_down == END
    assert load_profile("gpt-5").shut_down == date(2026, 12, 11)


def test_a_shipped_profile_asks_for_no_effort_that_its_model_does_not_take():
    for profile in shipped():
        effort = profile.request.get("reasoning_effort")
        profile.takes.check(profile.name, reasoning_effort=effort)
        if profile.takes.reasoning_effort and "none" not in profile.takes.reasoning_effort and profile.name != "gpt-5":
            assert profile.thinking is not None, f"{profile.name} always reasons: its answers need room"
            assert profile.thinking.budget >= ROOM[effort]


def test_the_price_of_models_that_stay_is_known():
    for profile in shipped():
        assert profile.price is not None or profile.is_off_on(date(2026, 11, 30)), profile.name


def test_a_value_that_a_model_does_not_take_is_an_error_with_those_that_it_takes():
    takes = Takes(reasoning_effort=("low", "high"), verbosity=())
    takes.check("m", reasoning_effort="low")
    with pytest.raises(OptionError, match="--reasoning-effort none: m does not take this value") as caught:
        takes.check("m", reasoning_effort="none")
    assert caught.value.hint == "it takes low, high"
    with pytest.raises(OptionError, match="--verbosity low: m does not take it") as caught:
        takes.check("m", verbosity="low")
    assert caught.value.hint == "omit --verbosity"


def test_a_tier_that_a_model_does_not_have_is_an_error():
    takes = load_profile("gpt-6.2-sol").takes
    takes.check("gpt-6.2-sol", service_tier="priority")
    with pytest.raises(OptionError, match=r"--service-tier flex: gpt-6\.2-sol does not take this value"):
        takes.check("gpt-6.2-sol", service_tier="flex")


def test_a_model_of_which_nothing_is_known_gets_any_value():
    Takes().check("m", reasoning_effort="enormous", verbosity="tiny", service_tier="flex")


@pytest.mark.parametrize("value", ['"low"', '["Low"]', "[1]", '["' + "x" * 40 + '"]'])
def test_the_table_has_lists_of_words(tmp_path, value):
    path = tmp_path / "mine.toml"
    path.write_text(f"{HOSTED}[takes]\nverbosity = {value}\n")
    with pytest.raises(ProfileError, match=r"takes\.verbosity"):
        load_profile(str(path))


def test_of_another_server_nothing_is_known_but_the_name():
    profile = served_profile("gpt-4o-mini")
    assert (profile.notice, profile.price, profile.takes) == ("", None, Takes())


@pytest.mark.parametrize(("effort", "budget"), ROOM.items())
def test_a_model_that_reasons_has_room_for_it(effort, budget):
    mode = thinking_mode(load_profile("gpt-6-luna"), effort=effort)
    assert (mode.thinks, mode.budget) == (True, budget)


def test_how_much_room_can_be_chosen_and_an_unknown_effort_has_some():
    profile = load_profile("gpt-6-luna")
    assert thinking_mode(profile, budget=500, effort="high").budget == 500
    assert thinking_mode(profile, effort="extreme").budget == ROOM["medium"]
    assert thinking_mode(profile).budget is None


def test_without_reasoning_there_is_no_room_for_it():
    assert thinking_mode(load_profile("gpt-6-luna"), effort="none").thinks is False
    with pytest.raises(OptionError, match="with --reasoning-effort none gpt-6-luna does not think"):
        thinking_mode(load_profile("gpt-6-luna"), budget=9, effort="none")


def test_a_model_that_reasons_by_effort_says_so_when_it_is_asked_to_think():
    with pytest.raises(OptionError) as caught:
        thinking_mode(load_profile("gpt-6-luna"), "on")
    assert caught.value.hint == "use --reasoning-effort low or medium or high or xhigh or max"
    with pytest.raises(OptionError) as caught:
        thinking_mode(load_profile("gpt-4o"), "on")
    assert caught.value.hint == "take a model that reasons"


def test_a_model_that_always_reasons_has_room_by_default():
    assert thinking_mode(load_profile("gpt-6.2-sol")).budget == ROOM["low"]
