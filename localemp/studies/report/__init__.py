"""The results of a study, as tables beside those of the paper."""
