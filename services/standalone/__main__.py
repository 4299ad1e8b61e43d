"""`python -m standalone` is `vbt`."""

from standalone.cli import main

main()
