# SPDX-License-Identifier: Apache-2.0
"""Numbers of bytes, for people."""


def told_bytes(number: float) -> str:
    """`1.4 GB`; decimal, as disks and buckets are told."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
