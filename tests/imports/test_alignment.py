"""Which rows of the data the items of a file answer."""

import pytest

from localemp.dialogue import Dialogue
from localemp.imports.alignment import find_rows, letters
from localemp.imports.items import Item


def dialogue(name, reference, *turns):
    return Dialogue(name, turns, reference=reference)


def item(*context, reference=None, id=None, row=None):
    return Item(1, {"reply": "x"}, id, row, context, reference)


ROWS = [
    dialogue("a", "It's fine, I won't tell.", "I broke my friend's cup."),
    dialogue("b", "Thank you!", "Hi"),
    dialogue("c", "Which one?", "I'm sad", "Oh?", "My dog DIED..."),
    dialogue("d", "Thank you!", "Hi"),
    dialogue("e", "Thank you!", "Hey"),
]


@pytest.mark.parametrize(
    ("raw", "theirs"),
    [
        ("I'm here.", "i am here ."),
        ("It's my friend's", "it is my friend 's"),
        ("You shouldn't!", "you should n't !"),
        ("I wasn't; I won't, I can't", "i was n't ; i will not , i can not"),
        ("They'll gonna know", "they 'll gon na know"),
        ('"Quoted", (really) 3.5', "`` quoted '' , ( really ) 3.5"),
        ("don’t", "don ’ t"),
        ("Ünï 日本", "ünï 日本"),
        ("...", ""),
    ],
)
def test_texts_are_the_same_letters_after_their_preprocessing(raw, theirs):
    assert letters(raw) == letters(theirs)


def test_different_texts_stay_different():
    assert letters("I do") != letters("I do not")
    assert letters("you're") != letters("your")


def test_items_are_found_by_context_and_reference_in_any_order():
    found = find_rows(
        [
            item("i am sad", "oh ?", "my dog died ...", reference="which one ?"),
            item("i broke my friend 's cup .", reference="it is fine , i will not tell ."),
            item("i broke my friend 's cup .", reference="something else"),
        ],
        ROWS,
    )
    assert found == [2, 0, None]


def test_the_same_text_twice_goes_to_the_nearest_free_row():
    hi = item("hi", reference="thank you !")
    assert find_rows([hi, hi, hi], ROWS) == [1, 3, None]
    broke = item("i broke my friend 's cup .", reference="it is fine , i will not tell .")
    sad = item("i am sad", "oh ?", "my dog died ...", reference="which one ?")
    assert find_rows([broke, sad, hi], ROWS) == [0, 2, 3]


def test_without_references_the_context_decides():
    assert find_rows([item("hey"), item("hi")], ROWS) == [4, 3]


def test_ids_come_before_texts_and_rows():
    assert find_rows([item("hey", id="c"), item(id="nobody"), item(id="1", row=1)], ROWS) == [2, None, None]


def test_rows_are_believed_where_there_is_nothing_else():
    assert find_rows([item(row=4), item(row=9)], ROWS) == [4, None]
    assert find_rows([item("hey", row=0)], ROWS) == [4]


def test_references_alone_are_aligned_in_order():
    texts = ["it is fine , i will not tell .", "thank you !", "which one ?", "unknown", "thank you !"]
    assert find_rows([item(reference=text) for text in texts], ROWS) == [0, 1, 2, None, 3]
    assert find_rows([item(reference="thank you !"), item(reference="")], ROWS) == [1, None]


def test_references_out_of_order_lose_the_fewest():
    texts = ["three", "one", "two"]
    rows = [dialogue(str(number), text, "Hi") for number, text in enumerate(["One", "Two", "Three"])]
    assert find_rows([item(reference=text) for text in texts], rows) == [None, 0, 1]


def test_nothing_to_map_to():
    assert find_rows([item("hi", reference="x"), item("hi")], []) == [None, None]
    assert find_rows([item(reference="x")], []) == [None]
