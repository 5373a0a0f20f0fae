"""Checking a paper's claims: claims and their rules, the runs behind them, and the ledger."""
