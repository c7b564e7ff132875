"""What the networks of all families share."""
