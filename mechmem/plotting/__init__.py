"""Families of figures: data frames in, plotly figures out."""
