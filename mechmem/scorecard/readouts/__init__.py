"""Ways to get predictions out of a network. One file is one readout; a new file is found by being there."""
