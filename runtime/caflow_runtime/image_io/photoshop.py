"""IPTC in Photoshop image resources, where JPEG and PNG files store it (Adobe Photoshop File Formats)."""

import struct

RESOURCE, IPTC_RESOURCE = b"8BIM", 0x0404


def iptc_of(photoshop: bytes) -> bytes | None:
    """Return the IPTC data in Photoshop resources; None if there is none."""
    place = 0
    while photoshop[place : place + 4] == RESOURCE and place + 12 <= len(photoshop):
        kind, name = struct.unpack_from(">HB", photoshop, place + 4)
        place += 6 + name + 1 + (name + 1) % 2
        if place + 4 > len(photoshop):
            return None
        (size,) = struct.unpack_from(">I", photoshop, place)
        if kind == IPTC_RESOURCE:
            return photoshop[place + 4 : place + 4 + size]
        place += 4 + size + size % 2
    return None


def iptc_resource(iptc: bytes) -> bytes:
    """Return Photoshop resources that contain only the IPTC data."""
    return RESOURCE + struct.pack(">HHI", IPTC_RESOURCE, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
