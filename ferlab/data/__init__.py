"""What a set of faces is: sources, identity, audit, balance, augmentation. Knows nothing of networks."""
