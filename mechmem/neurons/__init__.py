"""Cumulative ablation: what becomes of the four accuracies as neurons are removed, one group after another."""
