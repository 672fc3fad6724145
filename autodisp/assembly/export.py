"""Source and target of an export, from its typed config."""

from pathlib import Path

from autodisp.assembly.networks import find_genotype, load_space
from autodisp.cells.genotype import zoo_names
from autodisp.config.export import ExportConfig
from autodisp.errors import InputError
from autodisp.export.found_cells import Found, of_run


def build_found(config: ExportConfig) -> Found:
    """Reads the cells named by the config.

    Raises:
        InputError: there are none, or they cannot be read.
    """
    space = load_space(config.space_file, key="space_file")
    if config.run is not None:
        return of_run(Path(config.run).expanduser(), space=space)
    genotype = find_genotype(str(config.genotype), space=space)
    return Found(genotype, space, tuple(genotype.notes))


def build_out(config: ExportConfig) -> Path:
    """Returns the folder for the files: the one in the config, or one next to the source.

    Raises:
        InputError: the folder next to the source is a link, which may lead anywhere.
    """
    if config.out is not None:
        return Path(config.out).expanduser()
    folder = _beside(config)
    if folder.is_symlink():
        raise InputError(f"{folder}: is a link to {folder.resolve()}; name a folder for the files with out=")
    return folder


def _beside(config: ExportConfig) -> Path:
    if config.run is not None:
        return Path(config.run).expanduser() / "export"
    if config.genotype in zoo_names():
        return Path("export") / str(config.genotype)
    if config.checkpoint == "shipped":
        return Path("export")
    return Path(str(config.checkpoint or config.genotype)).expanduser().parent / "export"
