"""Tables of search spaces in which every architecture, or a sample of them, was trained alike.

import autodisp.tables
table = autodisp.tables.load("table.json")
table.rank(genotype), table.regret(genotype), table.best().metric
"""

from autodisp.tables.reading import load
from autodisp.tables.statistics import Correlation, deviation, mean, rank_correlation
from autodisp.tables.table import Cells, Entry, Spread, Table, Trained

__all__ = [
    "Cells", "Correlation", "Entry", "Spread", "Table", "Trained", "deviation", "load", "mean", "rank_correlation",
]  # fmt: skip
