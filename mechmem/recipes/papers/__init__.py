"""Recipes, one package per paper."""
