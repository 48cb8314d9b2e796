"""Export a trained network for another runtime: `python src/export.py --help`."""

from fastscnn.cli.export import main

if __name__ == "__main__":
    main()
