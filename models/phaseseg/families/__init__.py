"""The families of methods. Each lives in a folder of its own and knows nothing of the others."""
