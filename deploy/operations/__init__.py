"""What stands around the reference solution in production: when it runs, what is watched, and the pages for people."""
