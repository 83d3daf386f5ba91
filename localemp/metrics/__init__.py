"""What replies are worth: automatic metrics as the paper computed them, and how sure one can be of a difference."""
