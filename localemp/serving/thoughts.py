"""Keeps what a served model thinks apart from what it answers, and learns whether its prompts open the thought.

A model whose chat template ends with "<think>" closes a thought that its text never opened. Of a whole text that is
plain; of a stream it is known only after the thought was sent on. So it is remembered: from the second text on, what
comes first is a thought, until a text closes none.
"""

from localemp.protocol.thinking import Split, ThinkingSplitter, split_thinking


class Thoughts:
    """What is known of one model.

    Attributes:
        opened: Whether its texts begin with a thought.
    """

    def __init__(self) -> None:
        self.opened = False

    def whole(self, text: str, reason: str | None) -> Split:
        """Answer and thought of a whole text.

        Args:
            text: As the model wrote it.
            reason: Why it ended; one that used up its tokens may not have come to the end of its thought.
        """
        splitter = ThinkingSplitter()
        splitter.feed(text)
        splitter.end()
        if self.opened and reason == "length" and not splitter.marked:
            return Split("", text.strip())
        self.opened = splitter.unopened
        return Split(splitter.text, splitter.thinking) if splitter.marked else split_thinking(text)

    def stream(self) -> "StreamedThoughts":
        """For a text that comes bit by bit."""
        return StreamedThoughts(self)


class StreamedThoughts:
    """Sets a thought apart in one stream."""

    def __init__(self, known: Thoughts) -> None:
        self._known, self._assumed = known, known.opened
        self._splitter = ThinkingSplitter(known.opened)

    def feed(self, text: str) -> Split:
        """What is certain now of answer and thought."""
        return self._splitter.feed(text)

    def end(self, reason: str | None) -> Split:
        """What was held back; a thought that was only assumed, and never closed, was the answer."""
        rest = self._splitter.end()
        if self._splitter.unopened:
            self._known.opened = True
        if self._assumed and not self._splitter.closed and reason != "length":
            self._known.opened = False  # it is no such model, or not always
            return Split(self._splitter.thinking, "")
        return rest
