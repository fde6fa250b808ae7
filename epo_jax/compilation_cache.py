"""JAX's persistent compilation cache, for command lines: importing the library never switches it on.

What the cache holds is loaded and run as machine code, so its folder must be the user's alone.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import sys
import tempfile
from pathlib import Path

import jax
import platformdirs
from jax.experimental.compilation_cache import compilation_cache

from epo_jax.errors import EpoError

FLAG = "--compilation_cache_dir"


def use_compilation_cache(folder: str | Path | None = None) -> None:
    """Keep compiled programs in a folder from now on.

    Args:
        folder: it is made if need be, for the user alone; "" switches the cache off; by default the user's cache
            folder, unless JAX was given one (JAX_COMPILATION_CACHE_DIR). A default that cannot be used is one line on
            stderr, and the run goes on without.

    Raises:
        EpoError: a given folder that cannot be written, that others can write, or that is on another machine.
    """
    if folder is None:
        if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
            _use_default()
    elif "://" in str(folder):
        raise EpoError(f"{FLAG}={folder}: not a folder of this machine")
    elif str(folder):
        _use(_private_folder(Path(folder)))
    else:
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()


def _use_default() -> None:
    try:
        _use(_private_folder(platformdirs.user_cache_path("epo_jax", appauthor=False)))
    except EpoError as error:
        print(f"epo_jax: no compilation cache: {error}", file=sys.stderr)


def _use(folder: Path) -> None:
    # A home that several machines share must not give one machine's code to another: JAX's key leaves out the CPU.
    own = folder / machine()
    own.mkdir(mode=0o700, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(own))
    # Everything that is compiled is kept: the many small programs around a dream add up to seconds.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    # JAX looks at the folder's name once, at its first compilation.
    compilation_cache.reset_cache()


def _private_folder(path: Path) -> Path:
    """Make a folder that only the user can write, and return it with all links followed.

    Raises:
        EpoError: it cannot be made or written, or it is, or can become, another's.
    """
    try:
        path = path.expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        # What is checked is what is used: a link that is turned elsewhere later changes nothing.
        real = path.resolve(strict=True)
        if os.name == "posix":
            _check_owner(path, real)
        with tempfile.TemporaryFile(dir=real):
            pass
    except (OSError, RuntimeError) as error:
        raise EpoError(
            f"{FLAG}={path}: cannot be written ({error}); give another folder, or nothing to switch it off"
        ) from error
    return real


def _check_owner(path: Path, real: Path) -> None:
    advice = "what it holds is run as code; give a folder of yours, or nothing to switch it off"
    found, me = real.stat(), os.getuid()
    if found.st_uid != me or path.lstat().st_uid not in (me, 0):
        raise EpoError(f"{FLAG}={path}: belongs to another user, and {advice}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EpoError(f"{FLAG}={path}: others can write it, and {advice} (chmod go-w makes it yours alone)")
    for above in real.parents:
        # Whoever may rename a folder can put another in its place; a sticky folder such as /tmp forbids that.
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise EpoError(f"{FLAG}={path}: everybody can replace it, since {above} is writable by all, and {advice}")


def machine() -> str:
    """A name for machines that run the same machine code."""
    told = [platform.system(), platform.machine(), platform.processor()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        told += sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    return f"{platform.machine()}-{hashlib.sha256(os.linesep.join(told).encode()).hexdigest()[:12]}"
