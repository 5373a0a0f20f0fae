"""Papers, claim by claim. One file is one paper and holds its `RECIPE`; a new file is found by being there."""
