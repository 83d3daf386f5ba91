"""Models as raters: what they are asked, and how their answers are read."""
