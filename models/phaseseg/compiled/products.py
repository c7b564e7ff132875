"""Products of three numbers in compiled loops."""

from phaseseg.compiled.jit import jit


@jit
def product(x, y, z, matrix):
    """(x, y, z) @ matrix."""
    return (
        x * matrix[0, 0] + y * matrix[1, 0] + z * matrix[2, 0],
        x * matrix[0, 1] + y * matrix[1, 1] + z * matrix[2, 1],
        x * matrix[0, 2] + y * matrix[1, 2] + z * matrix[2, 2],
    )
