"""List, show, annotate and tag runs, and free their checkpoints: `python src/runs.py --help`."""

from fastscnn.cli.runs import main

if __name__ == "__main__":
    main()
