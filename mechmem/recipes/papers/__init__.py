"""Recipes. One package is one paper and holds its `RECIPE`."""
