"""Counts, on data small enough to count by hand."""

from localemp.data.conversations import Conversation, clean_instances
from localemp.data.stats import Stats
from localemp.dialogue import Dialogue


def test_conversations():
    conversations = [
        Conversation("c1", "sad", "s", ("one two three", "one", "one two", "one two", "one")),
        Conversation("c2", "proud", "s", ("one", "one two three")),
        Conversation("c3", "afraid", "s", ("one",)),
        Conversation("c4", "sad", "s", ("one",)),
    ]
    assert Stats.of_conversations(conversations, clean_instances(conversations)) == Stats(
        conversations=4,
        utterances=9,
        instances=3,  # contexts of 1, 3 and 1 turns; replies of 1, 2 and 3 words
        turns_per_context=5 / 3,
        words_per_utterance=15 / 9,
        words_per_reply=2.0,
        emotions={"sad": 2, "afraid": 1, "proud": 1},
        support_strategies={},
    )


def test_dialogues_of_one_conversation_count_once():
    dialogues = [
        Dialogue("a", ("one two",), "sad", reference="one", conversations=("c1",)),
        Dialogue("b", ("one two", "one", "one"), "sad", reference="one two three", conversations=("c1",)),
        Dialogue("c", ("one",)),
    ]
    counted = Stats.of_dialogues(dialogues)
    assert (counted.conversations, counted.utterances, counted.instances) == (2, 5, 3)
    assert (counted.words_per_utterance, counted.words_per_reply) == (8 / 5, 2.0)
    assert counted.emotions == {"sad": 1}


def test_replies_of_several_strategies():
    dialogues = [
        Dialogue("a", ("Hi.",), reference="Hi?", support_strategies=("Question",)),
        Dialogue("b", ("Hi.",), reference="Hi! Well?", support_strategies=("Others", "Question")),
    ]
    assert list(Stats.of_dialogues(dialogues).support_strategies.items()) == [("Question", 2), ("Others", 1)]


def test_no_replies():
    assert Stats.of_dialogues([Dialogue("a", ("Hi.",))]).words_per_reply is None


def test_no_instances():
    counted = Stats.of_conversations([Conversation("c1", "sad", "s", ("one",))], [])
    assert (counted.instances, counted.turns_per_context, counted.words_per_reply) == (0, 0.0, None)
