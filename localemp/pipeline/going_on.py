"""How to go on where a budget ended: how much is left to do, what that will cost, and the command."""

import math
import shlex

from localemp.errors import BudgetError
from localemp.utils.formatting import dollars, share
from localemp.utils.redaction import shown_command

_SPARE = 1.1  # what is left may cost more than what was done


def needed_in_all(error: BudgetError, done: int, left: int) -> float:
    """Return a budget that will do for everything, by what was spent so far, as two digits.

    Args:
        error: What ended it.
        done: How many dialogues or questions have an outcome.
        left: How many have none.
    """
    each = error.spent / done if done else error.needed
    amount = error.spent + _SPARE * left * each + error.needed
    step = 10.0 ** (math.floor(math.log10(amount)) - 1)
    return float(f"{math.ceil(amount / step - 1e-9) * step:.10g}")


def command_with(budget: float, command: str | None = None) -> str:
    """Return this command, or another one, with another budget; of a call of the library what to change in it."""
    words = shlex.split(shown_command() if command is None else command)
    if words[:1] != ["localemp"]:
        return f"the same call with budget={budget:g}"
    kept: list[str] = []
    for number, word in enumerate(words):
        if word != "--budget" and not word.startswith("--budget=") and words[number - 1] != "--budget":
            kept.append(word)
    return shlex.join([*kept, "--budget", f"{budget:g}"])


def say_how(error: BudgetError, done: int, total: int, unit: str, units: str | None = None) -> None:
    """Complete the hint of an error: what is left, about what it costs, and how to go on.

    Args:
        error: What ended it.
        done: How many dialogues or questions have an outcome.
        total: How many there are.
        unit: What they are called.
        units: Its plural.
    """
    left = total - done
    about = f", about {dollars(error.spent / done * left)} US dollars by what the others cost" if done else ""
    error.hint = (
        f"everything that was answered is kept; {share(left, total, unit, units)} {'is' if left == 1 else 'are'} "
        f"left{about}; to go on: {command_with(needed_in_all(error, done, left))}"
    )
