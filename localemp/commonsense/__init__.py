"""Commonsense inferences: COMET, and files of inferences made beforehand."""
