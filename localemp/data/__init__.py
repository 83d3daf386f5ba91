"""Sources of dialogues: readers of data sets and files."""
