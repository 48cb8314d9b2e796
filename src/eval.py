"""Evaluate a checkpoint on whole frames: `python src/eval.py --help`."""

from fastscnn.cli.eval import main

if __name__ == "__main__":
    main()
