"""Studies: blinded evaluation of replies by people and judges, and its statistics (section 4.3)."""
