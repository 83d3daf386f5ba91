"""The OpenAI API as servers really speak it: answers, streams and errors, read by everybody here in the same way."""
