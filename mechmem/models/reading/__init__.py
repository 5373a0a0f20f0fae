"""Read access to a network: logits, activations, gradients, weights, the residual stream."""
