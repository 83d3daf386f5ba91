"""Probabilities of fixed answers: which tokens to ask a model about, and how the answers are put together.

The probability of a choice is that of a reply that begins with it and with no longer choice: the product of its tokens'
probabilities, and for "1" beside "10" without what goes on to "10". Nothing is sampled and nothing is masked, so the
probabilities are the model's own at temperature 1.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from localemp.protocol.completions import TokenProbabilities

Tokens = tuple[int, ...]
# Takes the tokens that the reply begins with, and returns the probability of each of some tokens to be the next one.
NextToken = Callable[[Tokens, Sequence[int]], Awaitable[Mapping[int, float]]]

# Of a hosted model only the likeliest tokens are known, and what follows the sampled one. Too little is known where
# more than this share of the choices' probability belongs to tokens that only begin a choice.
_UNRESOLVED = 0.01


def normalised(masses: Mapping[str, float]) -> tuple[dict[str, float] | None, float]:
    """Return the probabilities of the choices among themselves, None if all are 0, and their sum before."""
    mass = sum(masses.values())
    return ({choice: each / mass for choice, each in masses.items()} if mass > 0 else None), mass


async def choice_masses(spellings: Mapping[str, Iterable[Tokens]], next_token: NextToken) -> dict[str, float]:
    """Return the probability of each choice, asking once for each beginning that several tokens can follow.

    Args:
        spellings: The tokens of each choice, in each of its spellings; no two choices share one.
        next_token: Asks the model.
    """
    choice_of = {tokens: choice for choice, each in spellings.items() for tokens in each}
    following: dict[Tokens, list[int]] = {}
    for tokens in choice_of:
        for end in range(len(tokens)):
            next_ones = following.setdefault(tokens[:end], [])
            if tokens[end] not in next_ones:
                next_ones.append(tokens[end])
    masses = dict.fromkeys(spellings, 0.0)
    reached: dict[Tokens, float] = {(): 1.0}
    for beginning in sorted({*following, *choice_of}, key=len):
        begun = reached[beginning]
        if after := following.get(beginning):
            found = await next_token(beginning, after)
            reached |= {(*beginning, token): begun * found[token] for token in after}
            begun *= max(0.0, 1 - sum(found[token] for token in after))
        if beginning in choice_of:
            masses[choice_of[beginning]] += begun
    return masses


def masses_in(positions: Sequence[TokenProbabilities], choices: Sequence[str]) -> dict[str, float] | None:
    """Return the probability of each choice from the likeliest tokens of a reply; None if they do not tell.

    Spaces around a choice and its case are ignored, unless two choices differ in case alone. A choice that is not among
    the tokens has a probability of 0.

    Args:
        positions: The likeliest tokens of each position, from the first.
        choices: The choices.
    """
    fold = str.casefold if len({choice.casefold() for choice in choices}) == len(choices) else str
    named = {fold(choice): choice for choice in choices}
    masses, unresolved = dict.fromkeys(choices, 0.0), 0.0
    written, reached = "", 1.0  # along the reply: its text so far, and the probability of that text
    begun: str | None = None  # the choice that this text is, unless it goes on to a longer one
    for position in positions:
        said = {token: fold((written + token).strip()) for token in position.likeliest}
        ongoing, ends = 0.0, 1.0
        for token, text in said.items():
            longer = [each for each in named if each.startswith(text) and each != text]
            choice, share = named.get(text), position.likeliest[token]
            if (choice is None and not longer) or (choice is not None and choice == begun):
                continue
            ends -= share
            if choice is not None and all(each in said.values() for each in longer):
                masses[choice] += reached * share
            elif token == position.sampled:
                ongoing = reached * share
            else:
                unresolved += reached * share
        if begun is not None:
            masses[begun] += reached * max(0.0, ends)
        written, reached, begun = written + position.sampled, ongoing, named.get(said[position.sampled])
        if not ongoing:
            break
    if begun is not None:  # the reply ended with it
        masses[begun] += reached
    else:
        unresolved += reached if positions else 0.0
    return None if unresolved > _UNRESOLVED * sum(masses.values()) or not any(masses.values()) else masses
