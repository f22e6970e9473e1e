"""The command `multiverse`."""

from __future__ import annotations


def main() -> None:
    """Run the command line; imports happen per command, since `run` has to start fast."""
    from multiverse.cli.main import cli

    cli(prog_name="multiverse")


if __name__ == "__main__":
    main()
