"""Output fields of phase labels and of the networks of this family: names, units and classes."""

from __future__ import annotations

from functools import partial

from phaseseg.specs import ClassName, FieldSpec, part_class

POOR, RICH, BOUNDARY = 0, 1, 2

PHASE_CLASSES = (
    ClassName(POOR, "poor", (0.16, 0.34, 0.62)),
    ClassName(RICH, "rich", (0.90, 0.54, 0.20)),
    ClassName(BOUNDARY, "boundary", (0.93, 0.86, 0.56)),
)

SURFACE = "phaseseg.families.segmentation.surface:interface_grid"
DENSITY = "Å^-3 or 1"
"""Unit of the thresholded field, a number density or a mole fraction depending on the label rule."""

# fmt: off
FIELDS = (
    FieldSpec("phase", "Phase", "", "atom", "class",
        "0 poor, 1 rich in the chosen species, 2 within half the boundary width of the interface",
        PHASE_CLASSES),
    FieldSpec("phase_probability", "Phase Probability", "", "atom", "probability",
        "probability of poor and rich, and of boundary if the network predicts it",
        PHASE_CLASSES),
    FieldSpec("phase_uncertainty", "Phase Uncertainty", "", "atom", "scalar",
        "standard deviation of the probability of rich over the networks of a checkpoint"),
    FieldSpec("phase_density", "Phase Density", DENSITY, "atom", "scalar",
        "smoothed density (or mole fraction) of the chosen species at the atom"),
    FieldSpec("interface_distance", "Interface Distance", "Å", "atom", "scalar",
        "signed distance to the interface, positive in the rich phase; NaN where there is none"),
    FieldSpec("domain", "Domain", "", "atom", "count",
        "number of the rich domain that contains the atom, 1 for the largest; 0 outside",
        class_of=partial(part_class, "domain", "outside")),
    FieldSpec("density_grid", "Phase Density", DENSITY, "grid", "scalar",
        "smoothed density (or mole fraction) of the chosen species", surface=SURFACE),
    FieldSpec("score_grid", "Phase Score", "Å", "grid", "scalar",
        "smoothed score of a network, approximately the signed distance to the interface", surface=SURFACE),
    FieldSpec("n_phases", "Number of phases", "", "frame", "count", "verdict: 1 or 2 phases"),
    FieldSpec("sigma", "Sigma", "Å", "frame", "scalar",
        "standard deviation of the Gaussian that smooths the density"),
    FieldSpec("phase_contrast", "Phase contrast", "", "frame", "scalar",
        "difference between the two sides of the cut over their counting noise; two phases if at least 1.6"),
    FieldSpec("probability_threshold", "Probability threshold", "", "frame", "scalar",
        "probability at or above which an atom is rich"),
    FieldSpec("score_threshold", "Score threshold", "Å", "frame", "scalar",
        "score at the probability threshold"),
    FieldSpec("mean_uncertainty", "Mean uncertainty", "", "frame", "scalar",
        "mean of the phase uncertainty over the atoms"),
    FieldSpec("outside_training", "Outside of the training data", "", "frame", "scalar",
        "fraction of atoms outside the training range, for the feature with the largest such fraction"),
    FieldSpec("threshold", "Threshold", DENSITY, "frame", "scalar", "threshold that was used"),
    FieldSpec("threshold_steepest", "Steepest threshold", DENSITY, "frame", "scalar",
        "density at which the field is steepest"),
    FieldSpec("threshold_two_means", "Two-means threshold", DENSITY, "frame", "scalar",
        "threshold by exact two-means (Otsu)"),
    FieldSpec("n_domains", "Number of domains", "", "frame", "count", "rich domains that were kept"),
    FieldSpec("rich_atom_fraction", "Rich atom fraction", "", "frame", "scalar",
        "atoms on the rich side of the interface, boundary included, over all atoms"),
    FieldSpec("rich_mass_fraction", "Rich mass fraction", "", "frame", "scalar",
        "mass on the rich side of the interface, boundary included, over all mass; NaN without masses"),
    FieldSpec("rich_volume_fraction", "Rich volume fraction", "", "frame", "scalar",
        "volume on the rich side of the interface over the volume of the grid"),
    FieldSpec("interface_area", "Interface area", "Å^2", "frame", "scalar",
        "area of the interface, the surface of the rich phase"),
    FieldSpec("area_rich_poor", "Area between rich and poor", "Å^2", "frame", "scalar",
        "part of the interface that borders on the poor liquid"),
    FieldSpec("area_rich_void", "Area between rich and void", "Å^2", "frame", "scalar",
        "free surface of the rich phase, toward a void or vapor; also given for a frame of one phase"),
    FieldSpec("area_poor_void", "Area between poor and void", "Å^2", "frame", "scalar",
        "free surface of the poor liquid, toward a void or vapor; also given for a frame of one phase"),
    FieldSpec("interface_width", "Interface width", "Å", "frame", "scalar",
        "10-90 width of the error function fitted to the number density of the chosen species; NaN below "
        "the resolution"),
    FieldSpec("interface_width_error", "Interface width, error", "Å", "frame", "scalar",
        "standard error of the interface width from the noise of the counted atoms"),
    FieldSpec("interface_width_resolution", "Interface width, resolution", "Å", "frame", "scalar",
        "10-90 width that a sharp interface may seem to have because of the noise of its position"),
    FieldSpec("mass_balance_residual", "Mass balance residual", "", "frame", "scalar",
        "largest difference between the sum over the phases and the whole frame, over all elements"),
    FieldSpec("composition", "Composition", "wt% and at%", "table", "scalar",
        "composition of each phase and of the bulk of each phase"),
    FieldSpec("partition", "Partition coefficients", "", "table", "scalar",
        "ratio of the contents of the rich and the poor phase, by weight and by atoms"),
    FieldSpec("domains", "Domains", "", "table", "scalar",
        "volume, number of atoms and percolation of every rich domain that was kept"),
    FieldSpec("proxigram", "Proxigram", "at% and Å^-3", "table", "scalar",
        "content, number density and mass density against the distance to the interface"),
)
# fmt: on
