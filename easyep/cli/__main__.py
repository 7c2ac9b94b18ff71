"""`python -m easyep.cli`."""

from easyep.cli import main

main()
