"""Whether anything matches: probabilities of a query's hits from the list of its candidates."""
