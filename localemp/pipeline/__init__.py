"""From what a person asked for to replies: configuration, session, batches, clusters."""
