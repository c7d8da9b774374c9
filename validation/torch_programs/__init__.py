"""Real torch programs, small enough to read, that closed forms are compared with."""
