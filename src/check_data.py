"""Look at every file of a data set before training on it: `python src/check_data.py --help`."""

from fastscnn.cli.check_data import main

if __name__ == "__main__":
    main()
