#!/usr/bin/env python3
"""What fat binaries carry: fat-core.py OBJCOPY CORE VERSION BIN HEADER, for meson.build.

The core without its symbols, and a header with what its bytes are checked by.
"""

import subprocess
import sys
import zlib
from pathlib import Path

objcopy, core, version, stripped, header = sys.argv[1:]
subprocess.run([objcopy, "--strip-all", core, stripped], check=True)
content = Path(stripped).read_bytes()
Path(header).write_text(
    f"""#define MV_CORE_SIZE {len(content)}
#define MV_CORE_CRC32 {zlib.crc32(content):#x}
#define MV_RELEASE "{version}"
"""
)
