"""The information in each layer: features, classifiers, probes."""
