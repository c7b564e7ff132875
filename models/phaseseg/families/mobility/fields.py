"""Fields of the mobility of particles: names and units."""

from __future__ import annotations

from phaseseg.specs import FieldSpec

# fmt: off
FIELDS = (
    FieldSpec("propensity", "Propensity", "σ", "atom", "scalar",
        "expected length of the displacement of the particle after the time of the checkpoint",
        by_species=True),
    FieldSpec("propensity_uncertainty", "Propensity Uncertainty", "σ", "atom", "scalar",
        "standard deviation of the propensity: spread of the networks, calibrated if the checkpoint is"),
    FieldSpec("mobile", "Mobile", "", "atom", "flag",
        "1 for the particles with the highest propensities among those of their type"),
    FieldSpec("inherent_displacement", "Inherent Displacement", "σ", "atom", "scalar",
        "distance between the particle and its position in the inherent structure"),
    FieldSpec("cage_variance", "Cage Variance", "σ^2", "atom", "scalar",
        "mean squared fluctuation of the particle in the cage of its neighbors"),
    FieldSpec("n_mobile", "Number of mobile particles", "", "frame", "count",
        "particles with the highest propensities among those of their type"),
    FieldSpec("mean_propensity_a", "Mean propensity of A", "σ", "frame", "scalar",
        "mean predicted propensity of the particles A"),
    FieldSpec("mean_propensity_b", "Mean propensity of B", "σ", "frame", "scalar",
        "mean predicted propensity of the particles B, if the checkpoint was trained on them"),
    FieldSpec("propensity_by_time", "Propensity by time", "", "table", "scalar",
        "mean and standard deviation of the predicted propensities for each time of the checkpoint"),
    FieldSpec("mobility_histogram", "Distribution of mobility", "", "table", "scalar",
        "distribution of the predicted propensity of each type"),
    FieldSpec("mobility_correlation", "Correlation of mobility in space", "", "table", "scalar",
        "correlation of the predicted propensities of two particles against their distance"),
)
# fmt: on
