"""Replies made elsewhere: files of other systems, read and matched to the rows of a data set."""
