"""`python -m easyep`."""

from easyep.cli import main

main()
