"""Shapes in signatures are checked while tests run: this proves that a wrong one is caught."""

import pytest
import torch
from jaxtyping import TypeCheckError

from mechmem.errors import ConfigError
from mechmem.math.additive import additive_part
from mechmem.math.fourier import keep_frequency, power
from mechmem.models.networks.config import MLPConfig


def test_axes_of_one_name_must_agree():
    with pytest.raises(TypeCheckError, match="pairs"):
        additive_part(torch.zeros(3, 2), torch.zeros(4, 2, dtype=torch.long), 2)


def test_dtype_is_checked():
    with pytest.raises(TypeCheckError, match="'k'"):
        keep_frequency(torch.zeros(5, 2), torch.ones(2))


def test_a_shape_with_a_variable_number_of_axes_is_checked():
    assert power(torch.zeros(5, 2, 3)).shape == (2, 2, 3)
    with pytest.raises(TypeCheckError):
        power(torch.zeros(5, 2, dtype=torch.long))


def test_arguments_that_are_no_arrays_meet_our_own_errors():
    with pytest.raises(ConfigError, match="activation must be one of 'relu', .*, got 3"):
        MLPConfig(activation=3)
