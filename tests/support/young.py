"""Young's orthogonal form: the matrices of the symmetric group's representations, built without any character."""

import itertools

import numpy as np


def standard_tableaux(shape):
    """Standard Young tableaux as tuples that hold the cell (row, column) of 1, 2, …."""
    if sum(shape) == 0:
        return [()]
    found = []
    for row, length in enumerate(shape):
        below = shape[row + 1] if row + 1 < len(shape) else 0
        if length > below:
            smaller = tuple(part - (other == row) for other, part in enumerate(shape))
            found += [(*tableau, (row, length - 1)) for tableau in standard_tableaux(smaller)]
    return found


def transposition(shape, i):
    """Matrix of the transposition of symbols i and i + 1, counted from 0."""
    tableaux = standard_tableaux(shape)
    matrix = np.zeros((len(tableaux), len(tableaux)))
    for place, tableau in enumerate(tableaux):
        (row, column), (next_row, next_column) = tableau[i], tableau[i + 1]
        distance = (next_column - next_row) - (column - row)
        matrix[place, place] = 1 / distance
        swapped = list(tableau)
        swapped[i], swapped[i + 1] = swapped[i + 1], swapped[i]
        if tuple(swapped) in tableaux:
            matrix[tableaux.index(tuple(swapped)), place] = np.sqrt(1 - 1 / distance**2)
    return matrix


def matrices(shape):
    """Matrix of every permutation of 0 … n − 1, in lexicographic order; products apply the right factor first."""
    n = sum(shape)
    generators = [transposition(shape, i) for i in range(n - 1)]
    found = []
    for permutation in itertools.permutations(range(n)):
        left, matrix = list(permutation), np.eye(len(standard_tableaux(shape)))
        # Swapping neighbours in one-line notation multiplies by their transposition from the right.
        while left != sorted(left):
            i = next(i for i in range(n - 1) if left[i] > left[i + 1])
            left[i], left[i + 1] = left[i + 1], left[i]
            matrix = generators[i] @ matrix
        found.append(matrix)
    return np.stack(found)
