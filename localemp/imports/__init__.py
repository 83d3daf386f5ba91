"""Import replies of other systems and match them to the rows of a data set."""
