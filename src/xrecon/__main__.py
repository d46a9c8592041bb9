"""`python -m xrecon` is the same as `xrecon`."""

from __future__ import annotations

from xrecon.cli.app import main

if __name__ == "__main__":
    main()
