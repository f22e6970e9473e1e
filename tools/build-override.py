"""Make the module of an installed set: build-override.py OUTPUT SOURCE-ROOT TOML LIBRARY...

What is not installed yet is put together as it will be: the package with its headers and libraries.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

output, root, toml, *libraries = (Path(word).absolute() for word in sys.argv[1:])
with tempfile.TemporaryDirectory() as directory:
    package = Path(directory, "multiverse")
    core = package / "_core"
    core.mkdir(parents=True)
    for entry in (root / "src" / "multiverse").iterdir():
        if entry.name != core.name:
            (package / entry.name).symlink_to(entry)
    (core / "include").symlink_to(root / "core" / "include")
    for library in libraries:
        (core / library.name).symlink_to(library)
    path = os.pathsep.join(filter(None, (directory, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "multiverse", "override", "build", toml.name, "-o", output]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    sys.exit(subprocess.run(command, cwd=toml.parent, env=environment).returncode)
