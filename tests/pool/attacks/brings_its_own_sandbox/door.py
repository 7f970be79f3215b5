"""Does nothing; beside it lie a bwrap and a python that run nothing, and an entry point that every pytest would load."""
