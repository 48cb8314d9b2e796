"""Compare runs from their records alone: `python src/compare.py --help`."""

from fastscnn.cli.compare import main

if __name__ == "__main__":
    main()
