"""`python -m benchmarks.peers`: what people use instead, beside our released model, on the same
faces.

Peers are installed apart, each into .ferlab/peers/<name> (packages pinned with hashes in the folder
of its name here), and asked by a worker of their own environment. Reads FER2013 ($FER2013) and CK+
($CK48); writes reports/peers/<name>.json after each set of faces, so that a rerun goes on, then
reports/peers/scores.json and docs/peers.md. Some five CPU minutes for all four.
"""
