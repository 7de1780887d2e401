"""ferlab: the reproducible laboratory for FER2013. The stages are thin; what they call is here."""

__version__ = "0.1.0"
