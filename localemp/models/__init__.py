"""Models by name: profiles, and finding, fetching and verifying weights."""
