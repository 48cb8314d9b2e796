"""What every room may use: files and the system, nothing about images, networks or runs."""
