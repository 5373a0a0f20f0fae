"""Classifiers of scikit-learn's kind that read a layer: subspaces, class means, neighbours, and a linear probe."""
