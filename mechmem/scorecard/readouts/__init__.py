"""Readouts: predictions from a network. One file is one readout."""
