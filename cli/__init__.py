"""The command line: a thin face over the what-if entry."""
