"""Settings of Hydra in every program: no log files, the folders of sweeps, the page of ``--help``."""
