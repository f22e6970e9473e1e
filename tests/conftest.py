"""Runs of the same command natively and as an HRT. The native run is the oracle."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from multiverse.core import core_path, probe
from multiverse.observe import Trace

GUESTS = Path(__file__).with_name("guests")
HRT = "require=1,quiet=1"  # a silent native fallback never passes as an HRT
PR_SET_CHILD_SUBREAPER = 36
GRACE = 10.0  # seconds that processes of a run may outlive its first process
