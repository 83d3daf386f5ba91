"""Separates what a served model thinks from what it answers, and learns whether its prompts open the thought.

A model whose chat template ends with "<think>" closes a thought that its text never opened. A whole text shows that; a
stream shows it only after the thought was sent on. So it is remembered: from the second text on, the beginning counts
as a thought, until a text closes none.
"""

from localemp.protocol.thinking import Split, ThinkingSplitter, split_thinking


class ModelThinking:
    """The state for one model.

    Attributes:
        opened: Whether its texts begin within a thought.
    """

    def __init__(self) -> None:
        self.opened = False

    def split(self, text: str, reason: str | None) -> Split:
        """Return answer and thought of a whole text.

        Args:
            text: The text as the model wrote it.
            reason: The finish reason; at "length" the end of the thought may be missing.
        """
        splitter = ThinkingSplitter()
        splitter.feed(text)
        splitter.end()
        if self.opened and reason == "length" and not splitter.marked:
            return Split("", text.strip())
        self.opened = splitter.unopened
        return Split(splitter.text, splitter.thinking) if splitter.marked else split_thinking(text)

    def splitter(self) -> "StreamSplitter":
        """Return a splitter for a text that arrives in pieces."""
        return StreamSplitter(self)


class StreamSplitter:
    """Separates answer and thought in one stream."""

    def __init__(self, model: ModelThinking) -> None:
        self._model, self._assumed = model, model.opened
        self._splitter = ThinkingSplitter(model.opened)

    def feed(self, text: str) -> Split:
        """Return the answer and thought that are certain now."""
        return self._splitter.feed(text)

    def end(self, reason: str | None) -> Split:
        """Return what was held back; a thought that was only assumed and never closed was the answer."""
        rest = self._splitter.end()
        if self._splitter.unopened:
            self._model.opened = True
        if self._assumed and not self._splitter.closed and reason != "length":
            self._model.opened = False  # it does not think, or not always
            return Split(self._splitter.thinking, "")
        return rest
