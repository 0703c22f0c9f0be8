"""catpose: is this change to the cat pose model really better?"""

__version__ = "0.1.0"
