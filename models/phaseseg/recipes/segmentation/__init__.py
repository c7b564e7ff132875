"""Data, training, study and cards of the segmentation checkpoints."""
