"""Studies: what people and judges think of replies, blinded, and what can be concluded from it (section 4.3)."""
