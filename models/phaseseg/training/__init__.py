"""Training: what the families share, from reading runs to the card of a checkpoint.

settings : how a network is trained, and how a family declares its own settings; no NumPy, no PyTorch
runs : trajectories by name, and how they are divided into training and validation
loop, state, curves : epochs with Adam, the state on disk, learning curves
search : the search for settings by nested cross-validation
output, files, card : what a training writes, and what every card says
"""
