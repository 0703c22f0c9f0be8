"""Labels of other tools, one file a format, and what turns them into a `Release`."""
