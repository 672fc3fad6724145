"""Pictures and pages made of what a run left behind: found cells, curves, disparities."""
