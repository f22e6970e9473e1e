"""The accelerator model: single functions of a running process in an HRT of its own."""
