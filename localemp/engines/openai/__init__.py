"""Any server that speaks the OpenAI API, hosted or one's own."""
