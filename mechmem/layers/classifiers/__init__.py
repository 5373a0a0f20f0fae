"""Classifiers with scikit-learn's interface that probes fit to a layer."""
