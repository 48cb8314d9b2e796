"""Label images and videos with a trained network: `python src/predict.py --help`."""

from fastscnn.cli.predict import main

if __name__ == "__main__":
    main()
