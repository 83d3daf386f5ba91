"""EPITOME (Sharma et al. 2020): the levels, 0 to 2, of three mechanisms of empathy in a reply.

`data.py` reads the labelled pairs, `network.py` is the model, `training.py` fits and evaluates it, `weights.py` keeps
it, `metric.py` scores with it.
"""
