"""The batch engine: an attack compiled once, for images of one size, on one device or on several.

`protect` takes any number of images; a `Protector` takes one batch after the other.
"""
