"""Papers, claim by claim: claims, trials, ledger."""
