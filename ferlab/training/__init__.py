"""Training a network, to the same bits each time: the loop and all that it needs.

Knows data and models; nothing of evaluation, tracking or pages.
"""
