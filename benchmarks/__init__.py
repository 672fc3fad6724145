"""Speed and memory of a search, measured; no part of the installed package."""
