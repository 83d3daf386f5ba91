"""The raters' page and the owner's."""
