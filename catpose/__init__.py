"""catpose: is this change to the cat pose model really better?"""

from catpose.version import __version__ as __version__
