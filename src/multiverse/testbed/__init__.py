"""The ring-0 testbed: a Linux of its own on QEMU's emulated SVM, over this machine's files.

Its stock ``kvm_amd`` is a hardware KVM as far as the HRT can tell, so programs run at ring 0 there,
on any machine, without /dev/kvm. It is an emulator: figures taken inside compare only with each
other.
"""

from __future__ import annotations
