"""What the phase labels and the networks of this family give: names, units and classes."""

from __future__ import annotations

from phaseseg.specs import ClassName, FieldSpec

POOR, RICH, BOUNDARY = 0, 1, 2

PHASE_CLASSES = (
    ClassName(POOR, "poor", (0.27, 0.46, 0.71)),
    ClassName(RICH, "rich", (0.85, 0.47, 0.16)),
    ClassName(BOUNDARY, "boundary", (0.93, 0.86, 0.56)),
)

DENSITY = "Å^-3 or 1"
"""Unit of what is cut: of a number density, or of a mole fraction; the rule of the labels knows which."""

# fmt: off
FIELDS = (
    FieldSpec("phase", "Phase", "", "atom", "class",
        "0 poor, 1 rich in the chosen species, 2 within half the boundary width of the interface",
        PHASE_CLASSES),
    FieldSpec("phase_probability", "Phase Probability", "", "atom", "probability",
        "probability of poor and rich, and of boundary where the network has learned it",
        PHASE_CLASSES),
    FieldSpec("phase_uncertainty", "Phase Uncertainty", "", "atom", "scalar",
        "standard deviation of the probability of rich over the networks of a checkpoint"),
    FieldSpec("phase_density", "Phase Density", DENSITY, "atom", "scalar",
        "smoothed density (or mole fraction) of the chosen species at the atom"),
    FieldSpec("interface_distance", "Interface Distance", "Å", "atom", "scalar",
        "signed distance to the interface, positive in the rich phase; NaN where there is none"),
    FieldSpec("domain", "Domain", "", "atom", "count",
        "number of the rich domain that the atom lies in, 1 the largest; 0 outside"),
    FieldSpec("density_grid", "Phase Density", DENSITY, "grid", "scalar",
        "smoothed density (or mole fraction) of the chosen species"),
    FieldSpec("score_grid", "Phase Score", "Å", "grid", "scalar",
        "smoothed score of a network: about the distance to the interface, positive in the rich phase"),
    FieldSpec("n_phases", "Number of phases", "", "frame", "count", "one-phase verdict: 1 or 2"),
    FieldSpec("phase_contrast", "Phase contrast", "", "frame", "scalar",
        "difference of the two sides of the cut over counting noise; two phases from 2 on"),
    FieldSpec("probability_threshold", "Probability threshold", "", "frame", "scalar",
        "probability from which on an atom is rich"),
    FieldSpec("score_threshold", "Score threshold", "Å", "frame", "scalar",
        "score at the probability threshold"),
    FieldSpec("mean_uncertainty", "Mean uncertainty", "", "frame", "scalar",
        "mean of the phase uncertainty over the atoms"),
    FieldSpec("outside_training", "Outside of the training data", "", "frame", "scalar",
        "share of the atoms beyond the training data, in the feature in which they are most"),
    FieldSpec("threshold", "Threshold", DENSITY, "frame", "scalar", "the cut that was used"),
    FieldSpec("threshold_steepest", "Steepest threshold", DENSITY, "frame", "scalar",
        "density at which the field is steepest"),
    FieldSpec("threshold_two_means", "Two-means threshold", DENSITY, "frame", "scalar",
        "cut of exact two-means (Otsu)"),
    FieldSpec("n_domains", "Number of domains", "", "frame", "count", "rich domains that were kept"),
    FieldSpec("rich_atom_fraction", "Rich atom fraction", "", "frame", "scalar",
        "atoms on the rich side of the interface, boundary included, over all atoms"),
    FieldSpec("rich_mass_fraction", "Rich mass fraction", "", "frame", "scalar",
        "mass on the rich side of the interface, boundary included, over all mass; NaN without masses"),
    FieldSpec("rich_volume_fraction", "Rich volume fraction", "", "frame", "scalar",
        "volume on the rich side of the interface over the volume of the grid"),
    FieldSpec("interface_area", "Interface area", "Å^2", "frame", "scalar", "area of the interface"),
    FieldSpec("interface_width", "Interface width", "Å", "frame", "scalar",
        "10-90 width of the error function fitted to the proxigram of the chosen species"),
    FieldSpec("mass_balance_residual", "Mass balance residual", "", "frame", "scalar",
        "largest difference, over the elements, between the bulk and the sum of the phases in the table"),
    FieldSpec("composition", "Composition", "wt% and at%", "table", "scalar",
        "composition of each phase and of the bulk of each phase"),
    FieldSpec("partition", "Partition coefficients", "", "table", "scalar",
        "content of the rich over that of the poor phase, by weight and by atoms"),
    FieldSpec("domains", "Domains", "", "table", "scalar",
        "volume, atoms and percolation of every rich domain that was kept"),
    FieldSpec("proxigram", "Proxigram", "at%", "table", "scalar",
        "concentration of every element against the distance to the interface"),
)
# fmt: on
