"""What every program gives to Hydra: no log files, the folders of sweeps, the page of ``--help``."""
