"""Create or update the project's W&B workspace and reports: `python src/dashboard.py --help`."""

from fastscnn.cli.dashboard import main

if __name__ == "__main__":
    main()
