"""The demo: models behind a local page."""
