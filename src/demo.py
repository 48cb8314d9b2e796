"""A page that labels photographs, films and the camera: `python src/demo.py --help`."""

from fastscnn.cli.demo import main

if __name__ == "__main__":
    main()
