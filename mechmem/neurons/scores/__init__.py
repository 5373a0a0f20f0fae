"""Numbers per neuron, by which neurons are ranked. One file is one score; a new file is found by being there."""
