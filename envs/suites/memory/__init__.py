"""Tasks that ask for memory and for nothing else: small observations, thousands of slots at once."""
