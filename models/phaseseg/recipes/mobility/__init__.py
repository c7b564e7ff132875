"""How the data, checkpoints and cards of the family mobility are made."""
