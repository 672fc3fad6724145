"""Cells, the operations on their edges, the spaces they are searched in and the genotypes that come out."""
