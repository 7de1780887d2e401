"""Training a network, to the same bits each time. Knows data and models, and nothing of scores or pages."""
