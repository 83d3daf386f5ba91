"""What an interrupt or an error says of how far a block got."""

import pytest

from localemp.errors import LocalempError, RunError
from localemp.utils.interrupts import noting


def unreadable():
    raise RunError("runs/mine: cannot be read", "")


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), LocalempError("the engine died")])
def test_it_is_noted_how_far_a_block_got(stop):
    with pytest.raises(type(stop)) as caught, noting(lambda: "5 of 20 replies saved"):
        raise stop
    assert caught.value is stop
    assert stop.__notes__ == ["5 of 20 replies saved"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), LocalempError("the engine died")])
def test_what_cannot_be_read_back_does_not_replace_the_interrupt(stop):
    with pytest.raises(type(stop)) as caught, noting(unreadable):
        raise stop
    assert caught.value is stop
    assert not hasattr(stop, "__notes__")
