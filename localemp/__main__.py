"""`python -m localemp` is the `localemp` command."""

from localemp.cli.main import main

if __name__ == "__main__":
    main()
