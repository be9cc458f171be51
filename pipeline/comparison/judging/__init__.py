"""How sure it is: statistics, verdicts, votes, plans."""
