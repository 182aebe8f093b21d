"""`python -m aggregator.cli`: the same as the `flyball` script."""

from aggregator.cli import main

main()
