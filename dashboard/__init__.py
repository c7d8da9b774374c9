"""What people look at: figures, which the command line draws with too."""
