"""Models by name: their profiles, where their weights come from, and how those are checked."""
