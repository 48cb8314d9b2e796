"""Table 6 on this machine, the peers beside us: `python src/benchmark.py --help`."""

from fastscnn.cli.benchmark import main

if __name__ == "__main__":
    main()
