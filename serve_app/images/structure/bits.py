"""Reads the bit fields of video headers."""

from __future__ import annotations


class Bits:
    r"""Reads a header bit by bit, the highest bit of each byte first. After its end, all bits are 0.

    >>> bits = Bits(b"\xa2")
    >>> bits.number(1), bits.exp_golomb(), bits.number(4), bits.number(8)
    (1, 1, 2, 0)
    """

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def skip(self, count: int) -> None:
        """Skip `count` bits."""
        self._left -= count

    def number(self, count: int) -> int:
        """Read an unsigned number of `count` bits; 0 if it reaches beyond the end."""
        self._left -= count
        return self._bits >> self._left & ((1 << count) - 1) if self._left >= 0 else 0

    def exp_golomb(self) -> int:
        """Read an Exp-Golomb number: n zeros, a one, then n bits, of which at most 32 are read.

        Source: ITU-T H.265, 9.2 (ue); AV1 specification, 4.10.3 (uvlc).
        """
        zeros = 0
        while self._left > 0 and not self.number(1):
            zeros += 1
        return (1 << min(zeros, 32)) - 1 + self.number(min(zeros, 32))
