"""Vectors times matrices in compiled loops."""

from phaseseg.compiled.jit import inner


@inner
def product(x, y, z, matrix):
    """(x, y, z) @ matrix."""
    return (
        x * matrix[0, 0] + y * matrix[1, 0] + z * matrix[2, 0],
        x * matrix[0, 1] + y * matrix[1, 1] + z * matrix[2, 1],
        x * matrix[0, 2] + y * matrix[1, 2] + z * matrix[2, 2],
    )


@inner
def product_from(origin, position, matrix):
    """(position - origin) @ matrix."""
    return product(position[0] - origin[0], position[1] - origin[1], position[2] - origin[2], matrix)
