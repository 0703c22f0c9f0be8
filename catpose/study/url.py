"""A storage's URL as people may see it. Light, for it is needed before anything else is imported."""

from __future__ import annotations

import re

from catpose.errors import one_line

#: The environment variable that holds a storage's URL.
STORAGE = "CATPOSE_STORAGE"


def masked(url: str) -> str:
    """The URL with *** for each password in it; also where it is no URL at all."""
    text = re.sub(r"(://[^:/@?#]*:).*@", r"\1***@", one_line(url))
    return re.sub(r"(?i)(pass\w*=)[^&]*", r"\1***", text)
