"""Every figure, as PNG files. `style` is the look of all; each other module draws one subject.

Nothing here knows the time or the machine: equal data give equal bytes.
"""
