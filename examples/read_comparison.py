"""Read a comparison as a table of pandas (pip install pandas): python read_comparison.py outputs/compare/comparison.csv

The file comes from: python src/compare.py runs=outputs
"""

import sys

import pandas

table = pandas.read_csv(sys.argv[1])
scores = [name for name in table.columns if "miou" in name and pandas.api.types.is_numeric_dtype(table[name])]
print(table.groupby("name")[scores].agg(["mean", "std", "count"]).round(4).to_string())
