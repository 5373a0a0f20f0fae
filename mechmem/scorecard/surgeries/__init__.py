"""Changes to a copy of a network. One file is one surgery; a new file is found by being there."""
