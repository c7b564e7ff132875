"""Phase segmentation: weak labels of two liquids from the density of a species."""
