"""The statistics of a study: agreement, preferences, ratings, correlations, intervals."""
