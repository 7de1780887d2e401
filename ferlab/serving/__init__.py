"""A trained network in use: photos, clips, a page, a server, exports, the released model.

May know everything below: data, models, training, evaluation, tracking and reporting.
"""
