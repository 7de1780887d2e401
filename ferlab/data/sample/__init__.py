"""The embedded sample: drawn faces, so that everything runs and is tested without a download.

`dataset.draw` makes it: `people` says who is shown, `portraits` paints them. Integers only: lengths
are hundredths of a pixel, coverages and activations 0..256, tones 0..255. There is no float, hence
no rounding that differs between processors: `draw().digest` is one constant everywhere.
"""
