"""Exit codes of the command line beside zero."""

BAD_INPUT, DOES_NOT_FIT, INTERRUPTED = 2, 3, 130
