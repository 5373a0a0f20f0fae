"""Pure functions on tensors: Fourier and irreps, ablation algebra, geometry of representations."""
