"""A thing that is made when it is first needed."""

import pytest

from localemp.errors import WeightsError
from localemp.utils.once import Once


def test_it_is_made_by_the_first_call_alone():
    made = []
    once = Once(lambda: made.append("model") or made)
    assert once.made is None and not made
    assert once() is once() is once.made is made
    assert made == ["model"]


def test_a_failure_is_not_tried_again():
    tries = []

    def fail():
        tries.append(1)
        raise WeightsError("no weights", "fetch them")

    once = Once(fail)
    for _ in range(3):
        with pytest.raises(WeightsError, match="no weights"):
            once()
    assert len(tries) == 1 and once.made is None
