"""Similarity of one pair of layers, which the package measures for all pairs at once."""

from mechmem.math.representations import centred_gram, cka_of_grams


def linear_cka(left, right, *, debiased=True):
    grams = [centred_gram(side, debiased=debiased) for side in (left, right)]
    return float(cka_of_grams(grams[:1], grams[1:]))
