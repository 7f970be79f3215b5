#!/bin/sh
# The first words are the manifest's, the others the grader's.
set -eu
[ "$1" = "two words" ] && shift 2
cd qa && exec python check_commands.py "$@"
