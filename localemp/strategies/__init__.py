"""How a reply is asked for (sections 3.2 and 3.3)."""
