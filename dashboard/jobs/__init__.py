"""Long work: what kinds there are, and the processes that do it."""
