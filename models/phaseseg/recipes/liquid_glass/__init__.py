"""Data, training, study and cards of the checkpoints for liquid and glass."""
