"""Reads the sizes of HEVC frames from sequence parameter sets, in a file's header (hvcC) and in the frames.

Source: ISO/IEC 14496-15:2017, 8.3.3 (hvcC); ITU-T H.265, 7.3.1 (NAL units), 7.3.2.2 (sequence parameter set), 7.3.3
(profiles).
"""

from __future__ import annotations

from collections.abc import Iterator

from serve_app.errors import InvalidImage
from serve_app.images.structure.bits import Bits
from serve_app.images.structure.bounds import MAX_PIXEL_CHUNKS

_SEQUENCE_PARAMETER_SET = 33
_MAX_BYTES = 512
"""Number of bytes of a parameter set that are read. The size is in its first 100 bytes."""
_PROFILE_BITS, _LEVEL_BITS = 88, 8
_SUB_LAYERS = 8


class UnitsLeft:
    """Counts the parameter sets and NAL units that may still be read, for all frames of a file together."""

    def __init__(self) -> None:
        self._left = MAX_PIXEL_CHUNKS

    def take(self) -> None:
        """Count one more.

        Raises:
            InvalidImage: the file has more than `MAX_PIXEL_CHUNKS` parameter sets and NAL units.
        """
        self._left -= 1
        if self._left < 0:
            raise InvalidImage("a broken HEIF file: too many parameter sets or NAL units")


def parameter_set_sizes(configuration: bytes, units_left: UnitsLeft) -> Iterator[tuple[int, int]]:
    """Yield (width, height) in pixels of each sequence parameter set of an hvcC box.

    Args:
        configuration: the contents of the box.
        units_left: the counter of the file's parameter sets and NAL units.

    Raises:
        InvalidImage: the file has too many parameter sets and NAL units.
        IndexError: the box is truncated.
    """
    at = 23
    for _ in range(configuration[22]):
        units_left.take()
        count = int.from_bytes(configuration[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            units_left.take()
            length = int.from_bytes(configuration[at : at + 2], "big")
            at += 2
            if at + length > len(configuration):
                raise IndexError
            yield from _size(configuration[at : at + min(length, _MAX_BYTES)])
            at += length


def set_sizes_of_frame(frame: bytes, configuration: bytes, units_left: UnitsLeft) -> Iterator[tuple[int, int]]:
    """Yield (width, height) in pixels of each sequence parameter set among the NAL units of a frame.

    Args:
        frame: the bytes of an item: NAL units, each after its length.
        configuration: the contents of the item's hvcC box, which gives the size of a length.
        units_left: the counter of the file's parameter sets and NAL units.

    Raises:
        InvalidImage: a NAL unit is truncated, or the file has too many parameter sets and NAL units.
    """
    size = (configuration[21] & 3) + 1
    at = 0
    while at < len(frame):
        units_left.take()
        length = int.from_bytes(frame[at : at + size], "big")
        at += size
        if at + length > len(frame):
            raise InvalidImage("truncated")
        yield from _size(frame[at : at + min(length, _MAX_BYTES)])
        at += length


def _size(unit: bytes) -> Iterator[tuple[int, int]]:
    """Yield the size in a NAL unit if it is a sequence parameter set.

        bits       | field
        -----------+---------------------------------------------------------------
        16         | header of the NAL unit; its type is in bits 1 to 6
        4, 3, 1    | video parameter set, sub-layers less 1, temporal nesting
        88, 8      | profile, level
        2 for each | if there are sub-layers: whether each has a profile, a level; padded to 8 pairs
        88, 8      | for each sub-layer: profile and level that it has
        ue, ue     | ID of the set, chroma format; if the format is 3, one more bit
        ue, ue     | width, height in pixels

    Source: ITU-T H.265, 7.3.2.2.1 and 7.3.3.
    """
    if len(unit) < 3 or unit[0] >> 1 & 63 != _SEQUENCE_PARAMETER_SET:
        return
    bits = Bits(unit[2:].replace(b"\0\0\3", b"\0\0"))
    bits.skip(4)
    sub_layers = bits.number(3)
    bits.skip(1 + _PROFILE_BITS + _LEVEL_BITS)
    present = [(bits.number(1), bits.number(1)) for _ in range(sub_layers)]
    bits.skip(2 * (_SUB_LAYERS - sub_layers) if sub_layers else 0)
    for profile, level in present:
        bits.skip(profile * _PROFILE_BITS + level * _LEVEL_BITS)
    bits.exp_golomb()
    if bits.exp_golomb() == 3:
        bits.skip(1)
    yield bits.exp_golomb(), bits.exp_golomb()
