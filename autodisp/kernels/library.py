"""Compiles edges.cpp at its first use and stores the library.

The file in the cache folder is named by a hash of the source, the compiler and the flags, so that another version of
either is compiled anew. The instructions are those that torch finds on this machine (AVX2, AVX-512, or the compiler's
default) and never "native": a cache that several machines share has one file for each.

Threads are those of torch: the library uses the OpenMP runtime that torch has loaded, and links to none.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("edges.cpp")
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math")
AVX2 = ("-DWIDTH=32", "-mavx2", "-mfma")
LEVELS: dict[str, tuple[str, ...]] = {
    "AVX512": ("-DWIDTH=64", "-DWIDE=1", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"),
    "AVX2": AVX2,
    "DEFAULT": ("-DWIDTH=16",),
}
"""Flags by torch's name of the CPU's capability."""
CACHE = "AUTODISP_CACHE"
"""The environment variable that names another cache folder."""


class Unavailable(Exception):
    """The library cannot be built; the message is the reason in one line."""


def cache_folder() -> Path:
    """Returns the folder of the compiled libraries."""
    given = os.environ.get(CACHE)
    root = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autodisp"
    return root / "kernels"


def level_for(channels: int, itemsize: int) -> str:
    """Returns the capability for tensors of that width: few channels would leave half of a wide vector empty."""
    level = torch.backends.cpu.get_cpu_capability()
    return "AVX2" if level == "AVX512" and channels * itemsize <= 32 else level


def prepare(remark: Callable[[str], object]) -> None:
    """Loads, and compiles if necessary, all libraries that this machine may use.

    Args:
        remark: called with a line before a compilation, which takes a while.

    Raises:
        Unavailable: as for ``library``.
    """
    levels = {level_for(channels, 4) for channels in (1, 64)}
    if not all(_compilation(level)[1].exists() for level in levels):
        remark("compiling the native kernels, this once: it takes up to a minute")
    with ThreadPoolExecutor() as pool:
        list(pool.map(library, levels))


@functools.cache
def library(level: str) -> ctypes.CDLL:
    """Loads the library for a CPU of that capability, in torch's terms.

    Raises:
        Unavailable: there is no compiler, or it fails.
    """
    command, path = _compilation(level)
    try:
        if not path.exists():
            _compile(command, path)
        loaded = ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        first = (error.stderr or b"").decode(errors="replace").strip().partition("\n")[0]
        raise Unavailable(f"{command[0]} failed: {first[:200]}") from None
    except OSError as error:
        raise Unavailable(f"they cannot be built in {cache_folder()} ({error.strerror or error})") from None
    _share_threads(loaded)
    return loaded


def _compilation(level: str) -> tuple[list[str], Path]:
    """Returns the command without its output, and the path of the library."""
    flags = LEVELS.get(level, LEVELS["DEFAULT"])
    compiler = shutil.which(os.environ.get("CXX") or "g++") or shutil.which("c++") or shutil.which("clang++")
    if os.name != "posix" or compiler is None:
        raise Unavailable("no C++ compiler was found (g++, c++, clang++ or $CXX)")
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise Unavailable(f"{compiler} --version fails") from None
    made_of = SOURCE.read_bytes(), version, repr((FLAGS, flags, platform.machine())).encode()
    key = hashlib.sha256(b"\0".join(made_of)).hexdigest()[:20]
    name = f"edges-{level.lower()}-{key}.so"
    return [compiler, *FLAGS, *flags], cache_folder() / name


def _compile(command: list[str], path: Path) -> None:
    """Compiles under another name first, so that no other process loads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        subprocess.run([*command, str(SOURCE), "-o", str(made)], capture_output=True, check=True)
        made.replace(path)


def _share_threads(loaded: ctypes.CDLL) -> None:
    """Passes the entry points of torch's OpenMP runtime; without them the library uses one thread."""
    try:
        torch_library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
        entries = [ctypes.cast(getattr(torch_library, name), ctypes.c_void_p) for name in names]
    except (OSError, AttributeError):
        return
    loaded.set_runtime(*entries)
