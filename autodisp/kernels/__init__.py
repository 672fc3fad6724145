"""Native evaluation of a cell's nodes on the CPU; the plain path in autodisp.cells is the reference."""
