"""The command `multiverse`."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line; imports happen per command, since `run` has to start fast."""
    # Until a command runs (cli.ending.interruptible) Ctrl-C ends this process as it does any other:
    # at once, without a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from multiverse.cli.main import cli

    cli(prog_name="multiverse")


if __name__ == "__main__":
    main()
