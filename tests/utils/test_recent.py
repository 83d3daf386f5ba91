"""What was used most recently is kept, and no more than the limit."""

from localemp.utils.recent import Recent


def test_only_the_most_recently_used_are_kept():
    recent = Recent[str, int](2)
    for number, key in enumerate("ab"):
        recent.put(key, number)
    assert recent.get("a") == 0
    recent.put("c", 2)
    assert [recent.get(key) for key in "abc"] == [0, None, 2]
    recent.clear()
    assert len(recent) == 0


def test_without_a_limit_nothing_is_kept():
    recent = Recent[str, int]()
    recent.put("a", 1)
    assert recent.get("a") is None
