"""Train a network, evaluate it and keep the run on record: `python src/train.py --help`."""

from fastscnn.cli.train import main

if __name__ == "__main__":
    main()
